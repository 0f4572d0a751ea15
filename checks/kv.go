package checks

import (
	"context"
	"encoding/json"
	"net/http"
)

// A KV names one value in a secrets engine of the type KV, version 2.
type KV struct {
	Mount string // where the engine is mounted, such as secret
	Path  string // of the secret in it, such as coffeebuddy/slack
	Key   string // of the value in the secret
}

// Read returns the newest version of a value, with the function's token. Its error is
// an [Error], whose text holds nothing of the answer: ReasonDenied for a token or a
// policy that does not allow it, ReasonMisconfigured for what is not there.
func (v *Vault) Read(ctx context.Context, kv KV) (string, error) {
	client, err := v.Client(ctx)
	if err != nil {
		return "", err
	}
	status, body, err := read(ctx, client, kv.Mount+"/data/"+kv.Path, nil)
	switch {
	case ReasonOf(err) == ReasonTLS:
		v.discard() // the certificates to trust may have changed on disk
		return "", err
	case err != nil:
		return "", err
	case status == http.StatusForbidden:
		return "", Fail(ReasonDenied, "Vault refuses to read the secret")
	case status == http.StatusNotFound:
		return "", Fail(ReasonMisconfigured, "Vault has no such secret, or it was deleted")
	case status != http.StatusOK:
		return "", statusError(status) // 503 where it is sealed
	}
	var answer struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Data.Data == nil {
		return "", Fail(ReasonBadResponse, "the secret did not come as from a KV engine of version 2")
	}
	value, ok := answer.Data.Data[kv.Key].(string)
	if !ok || value == "" {
		return "", Fail(ReasonMisconfigured, "the secret has no text under its key")
	}
	return value, nil
}
