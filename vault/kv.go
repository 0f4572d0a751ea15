package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"
)

// A KV names a secret, or one value in it, in a KV version 2 secrets engine.
type KV struct {
	Mount string // mount path of the engine, such as secret
	Path  string // path of the secret in the engine, such as coffeebuddy/slack
	Key   string // key of the value in the secret; "" for the whole secret
}

// ErrNotFound means that Vault does not have the secret, or no longer has that version of it.
var ErrNotFound = fault.New(fault.Misconfigured, "Vault has no such secret, or it was deleted")

// Read returns the newest version of a value, using the function's token. Its error contains
// nothing from the response. The error's reason is denied if the token or a policy does not allow
// the read, and misconfigured if the secret or value does not exist.
func (c *Client) Read(ctx context.Context, kv KV) (string, error) {
	value, _, err := c.ReadVersion(ctx, kv, 0)
	return value, err
}

// ReadVersion is like [Client.Read] for one version of the secret, 0 for the newest. It also
// returns the version that it read.
func (c *Client) ReadVersion(ctx context.Context, kv KV, version int) (string, int, error) {
	values, version, err := c.secret(ctx, kv, version)
	if err != nil {
		return "", 0, err
	}
	value, ok := values[kv.Key]
	if text, isText := value.(string); isText && text != "" {
		return text, version, nil
	}
	what := "the secret has no such key"
	switch {
	case value == "":
		what = "the secret's value is empty"
	case ok:
		what = "the secret's value is no text"
	default:
		for key := range values {
			if strings.EqualFold(key, kv.Key) {
				what = "the secret has no such key, but one that differs in its case"
			}
		}
	}
	return "", 0, fault.New(fault.Misconfigured, what)
}

// Secret returns all string values in the newest version of a secret by key, ignoring KV.Key.
// Values of other types are left out.
func (c *Client) Secret(ctx context.Context, kv KV) (map[string]string, error) {
	values, _, err := c.secret(ctx, kv, 0)
	if err != nil {
		return nil, err
	}
	texts := make(map[string]string, len(values))
	for key, value := range values {
		if text, ok := value.(string); ok {
			texts[key] = text
		}
	}
	return texts, nil
}

// secretLimit is the size of the largest response with a secret, in bytes. Vault stores up to 1 MiB
// by default, and the response adds metadata.
const secretLimit = 2 << 20

func (c *Client) secret(ctx context.Context, kv KV, version int) (values map[string]any, is int, err error) {
	var query map[string][]string
	if version != 0 {
		query = map[string][]string{"version": {strconv.Itoa(version)}}
	}
	resp, _, err := c.get(transport.WithLimit(ctx, secretLimit), kv.Mount+"/data/"+kv.Path, query)
	switch {
	case err != nil:
		return nil, 0, err
	case resp.status == http.StatusForbidden, resp.status == http.StatusNotFound:
		return nil, 0, c.refused(ctx, kv, resp)
	case resp.status != http.StatusOK:
		return nil, 0, fault.Status(resp.status) // 503 if Vault is sealed
	}
	var answer struct {
		Data struct {
			Data     map[string]any `json:"data"`
			Metadata struct {
				Version int `json:"version"`
			} `json:"metadata"`
		} `json:"data"`
	}
	if json.Unmarshal(resp.body, &answer) != nil || answer.Data.Data == nil {
		return nil, 0, fault.New(fault.BadResponse, "the secret did not come as from a KV engine of version 2")
	}
	return answer.Data.Data, answer.Data.Metadata.Version, nil
}
