package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"
)

// hintFor is how long a hint is cached, because a failing read is retried again and again.
const hintFor = time.Minute

// hint is the most likely cause of a secret that cannot be read.
type hint struct {
	kv     KV
	status int
	text   string
	until  time.Time
}

// notFound is ErrNotFound with its most likely cause.
type notFound struct{ error }

func (n notFound) Unwrap() error        { return n.error }
func (n notFound) Is(target error) bool { return target == ErrNotFound }

// refused returns the error for a secret whose read Vault answered with 403 or 404. Different
// mistakes in a secret's path lead to the same response, so this asks Vault what is mounted there,
// as Vault's own tools do. The error contains nothing from Vault's response.
func (c *Client) refused(ctx context.Context, kv KV, resp response) error {
	now := time.Now()
	c.state.Lock()
	h, limited := c.hint, c.lookup.limited
	c.state.Unlock()
	if h.kv != kv || h.status != resp.status || !now.Before(h.until) {
		h = hint{kv: kv, status: resp.status, text: c.guess(ctx, kv, resp, limited), until: now.Add(hintFor)}
		c.state.Lock()
		c.hint = h
		c.state.Unlock()
	}
	if resp.status == http.StatusNotFound {
		return notFound{fault.New(fault.Misconfigured, h.text)}
	}
	return fault.New(fault.Denied, h.text)
}

// guess returns a hint from a closed list.
func (c *Client) guess(ctx context.Context, kv KV, resp response, limited bool) string {
	switch {
	case resp.destroyed():
		return "this version of the secret was deleted or destroyed"
	case strings.HasPrefix(kv.Path, "data/"), strings.HasPrefix(kv.Path, "metadata/"):
		return "the path starts with data/ or metadata/, as vault read shows it: leave that out"
	}
	general := "Vault refuses to read the secret"
	if resp.status == http.StatusNotFound {
		general = ErrNotFound.(*fault.Error).Detail //nolint:errorlint // it is what it was made as
	}
	if limited { // the request would use up one of the token's uses
		return general
	}
	mounted, err := c.mounted(ctx, kv)
	switch {
	case err != nil:
		return general
	case mounted.Path == "":
		return "Vault has no such mount, or the token's policies allow nothing in it"
	case strings.Trim(mounted.Path, "/") != kv.Mount:
		return "the mount is another part of the path than its first segment: write mount:path"
	case mounted.Type != "kv" && mounted.Type != "generic":
		return "what is mounted there is no KV secrets engine"
	case mounted.Options.Version != "2":
		return "what is mounted there is a KV secrets engine of version 1: version 2 is needed"
	case resp.status == http.StatusForbidden:
		return "the token's policies do not allow to read the secret: they need read on mount/data/path"
	}
	return "the mount is right, and there is no such secret in it, or it was deleted"
}

// mount describes what Vault has mounted at a path.
type mount struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	Options struct {
		Version string `json:"version"`
	} `json:"options"`
}

// mounted asks Vault what is mounted at a secret's path. Path is empty if Vault does not tell.
func (c *Client) mounted(ctx context.Context, kv KV) (mount, error) {
	client, _, err := c.use(ctx)
	if err != nil {
		return mount{}, err
	}
	resp, err := read(transport.WithLimit(ctx, transport.Limit), client, "sys/internal/ui/mounts/"+kv.Mount+"/"+kv.Path, nil)
	switch {
	case err != nil:
		return mount{}, err
	case resp.status == http.StatusForbidden:
		return mount{}, nil
	case resp.status != http.StatusOK:
		return mount{}, fault.Status(resp.status)
	}
	var answer struct {
		Data mount `json:"data"`
	}
	if json.Unmarshal(resp.body, &answer) != nil || answer.Data.Path == "" {
		return mount{}, fault.New(fault.BadResponse, "the mount was not answered as Vault does")
	}
	return answer.Data, nil
}

// destroyed reports whether the response describes a version that no longer exists.
func (r response) destroyed() bool {
	var answer struct {
		Data struct {
			Metadata struct {
				Deleted   string `json:"deletion_time"`
				Destroyed bool   `json:"destroyed"`
			} `json:"metadata"`
		} `json:"data"`
	}
	return json.Unmarshal(r.body, &answer) == nil && (answer.Data.Metadata.Destroyed || answer.Data.Metadata.Deleted != "")
}
