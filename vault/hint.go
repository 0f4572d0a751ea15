package vault

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"
)

const (
	// hintFor is how long a hint is cached, because a failing read is retried again and again.
	hintFor = time.Minute

	// hintsMax is how many hints are cached. Vault is not asked about any further secret.
	hintsMax = 64
)

// A refusal is a secret that cannot be read, without its key, and the status that says so.
type refusal struct {
	kv     KV
	status int
}

// hint is the most likely cause of a refusal.
type hint struct {
	text  string    // "" while Vault is being asked for the first time
	until time.Time // when Vault may be asked again
}

// notFound is ErrNotFound with its most likely cause.
type notFound struct{ error }

func (n notFound) Unwrap() error        { return n.error }
func (n notFound) Is(target error) bool { return target == ErrNotFound }

// refused returns the error for a secret whose read Vault answered with 403 or 404. Different
// mistakes in a secret's path lead to the same response, so this asks Vault what is mounted there,
// as Vault's own tools do. The error contains nothing from Vault's response.
func (c *Client) refused(ctx context.Context, kv KV, resp response) error {
	text := c.hint(ctx, kv, resp)
	if resp.status == http.StatusNotFound {
		return notFound{fault.New(fault.Misconfigured, text)}
	}
	return fault.New(fault.Denied, text)
}

// hint returns a hint from a closed list.
func (c *Client) hint(ctx context.Context, kv KV, resp response) string {
	switch {
	case resp.destroyed():
		return "this version of the secret was deleted or destroyed"
	case strings.HasPrefix(kv.Path, "data/"), strings.HasPrefix(kv.Path, "metadata/"):
		return "the path starts with data/ or metadata/, as vault read shows it: leave that out"
	}
	r := refusal{KV{Mount: kv.Mount, Path: kv.Path}, resp.status}
	text, claimed := c.claim(r, time.Now())
	if claimed {
		text = c.guess(ctx, r)
		c.state.Lock()
		c.hints[r] = hint{text, c.hints[r].until}
		c.state.Unlock()
	}
	if text == "" {
		return r.general()
	}
	return text
}

// claim returns the last hint about a refusal, "" for none, and whether the caller must ask Vault
// for the next one.
func (c *Client) claim(r refusal, now time.Time) (text string, claimed bool) {
	c.state.Lock()
	defer c.state.Unlock()
	last, known := c.hints[r]
	if c.lookup.limited || now.Before(last.until) { // each request uses up a use of a limited token
		return last.text, false
	}
	if !known && len(c.hints) >= hintsMax {
		maps.DeleteFunc(c.hints, func(_ refusal, h hint) bool { return !now.Before(h.until) })
		if len(c.hints) >= hintsMax {
			return "", false
		}
	}
	c.hints[r] = hint{last.text, now.Add(hintFor)}
	return last.text, true
}

// general returns the hint about a refusal of which nothing more is known.
func (r refusal) general() string {
	if r.status == http.StatusNotFound {
		return ErrNotFound.(*fault.Error).Detail //nolint:errorlint // it is what it was made as
	}
	return "Vault refuses to read the secret"
}

// guess asks Vault what is mounted at the secret's path.
func (c *Client) guess(ctx context.Context, r refusal) string {
	mounted, err := c.mounted(ctx, r.kv)
	switch {
	case err != nil:
		return r.general()
	case mounted.Path == "":
		return "Vault has no such mount, or the token's policies allow nothing in it"
	case strings.Trim(mounted.Path, "/") != r.kv.Mount:
		return "the mount is another part of the path than its first segment: write mount:path"
	case mounted.Type != "kv" && mounted.Type != "generic":
		return "what is mounted there is no KV secrets engine"
	case mounted.Options.Version != "2":
		return "what is mounted there is a KV secrets engine of version 1: version 2 is needed"
	case r.status == http.StatusForbidden:
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
