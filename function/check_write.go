package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"coffeebuddy/checks"
)

// advice says for a reason what to look at, as docs/operations.md does.
func advice(reason checks.Reason) string {
	return map[checks.Reason]string{
		checks.ReasonMisconfigured: "the log's first lines: which variable, and what is allowed. A probe's answer without Retry-After means that only new settings help",
		checks.ReasonPending:       "nothing: the first check is under way. If it stays, the check hangs; timeout follows",
		checks.ReasonStale:         "a dependency that accepts connections and does not answer, beside a long COFFEEBUDDY_CHECK_TIMEOUT",
		checks.ReasonDNS:           "the name in VAULT_ADDR or ORY_BASE_URL, the cluster's DNS, an egress rule that forbids it",
		checks.ReasonRefused:       "is the server up, is it the right port, does a NetworkPolicy or a firewall stand between",
		checks.ReasonTLS:           "who signed its certificate (private CAs), its names, its dates, https on a plain port",
		checks.ReasonTimeout:       "an overloaded server, or packets that are dropped. A check of Vault is two requests, one after the other, within COFFEEBUDDY_CHECK_TIMEOUT: where Vault takes a second for each, raise it",
		checks.ReasonDenied:        "the log says whether the login or the token was refused. With VAULT_ROLE: the role, its service account and audience. The token: expired, revoked, of another namespace (VAULT_NAMESPACE), a wrapping token. Rotate it; it heals within 30 s where Vault was mended instead",
		checks.ReasonSealed:        "Vault: unseal or initialize it",
		checks.ReasonUninitialized: "Vault: unseal or initialize it",
		checks.ReasonInactive:      "which Vault node VAULT_ADDR leads to: a DR secondary cannot serve, nor one that was removed or lost its cluster",
		checks.ReasonUnavailable:   "the server's own log: it answered that it is not ready. For Hydra that is its database",
		checks.ReasonBadResponse:   "what really answers there: a proxy's login page, a public port instead of the admin one, a redirect to another host",
	}[reason]
}

// writeJSON writes the result as one object.
func (r *result) writeJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// printable returns a text as it is, or quoted if it could draw on a terminal.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// writeText writes the result for people: settings, then each dependency with the way there.
func (r *result) writeText(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "settings")
	for _, v := range r.Settings {
		said := v.Value
		switch v.State {
		case stateWrong:
			said = v.Why
		case stateUnknown:
			said = "the function has no such setting"
		}
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\n", printable(v.Name), v.State, printable(said))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var text strings.Builder
	for _, d := range r.Dependencies {
		d.write(&text)
	}
	switch {
	case r.panicked:
		text.WriteString("\nnot ready: the function would not start\n")
	case len(r.Dependencies) == 0:
		text.WriteString("\nwrong settings: the function would not start\n")
	case r.Ready:
		text.WriteString("\nready\n")
	default:
		text.WriteString("\nnot ready\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (d *dependency) write(out *strings.Builder) {
	fmt.Fprintf(out, "\n%s: ", d.Name)
	if d.Reason == "" {
		out.WriteString("ok\n")
	} else {
		fmt.Fprintf(out, "%s (%s)\n", d.Reason, d.Detail)
	}
	for _, request := range d.Requests {
		fmt.Fprintf(out, "  %s\n", request)
	}
	if d.Advice != "" {
		fmt.Fprintf(out, "  look at: %s\n", d.Advice)
	}
}

// String returns how far the request came, in a line.
func (r *request) String() string {
	var steps []string
	if r.Method != "" {
		steps = append(steps, strings.TrimSpace(r.Method+" "+r.Path))
	}
	if r.Host != "" {
		steps = append(steps, "to "+r.Host)
	}
	if len(r.Addresses) > 0 {
		steps = append(steps, "resolved to "+strings.Join(r.Addresses, ", "))
	}
	if r.Connected != "" {
		steps = append(steps, "connected to "+r.Connected)
	}
	if r.Failed != "" {
		steps = append(steps, r.Failed)
	}
	if r.TLS != "" {
		steps = append(steps, fmt.Sprintf("%s, certificate by %q", r.TLS, r.Issuer))
	}
	switch {
	case r.Status != 0:
		steps = append(steps, fmt.Sprintf("status %d", r.Status))
	case r.http:
		steps = append(steps, "no response")
	}
	return strings.Join(steps, " → ") + fmt.Sprintf(" (%d ms)", r.Millis)
}
