package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/hashicorp/vault/api"
)

// A response is what Vault answers, whatever the status.
type response struct {
	status int
	header http.Header
	body   []byte
}

// read returns what Vault answers at a path.
func read(ctx context.Context, client *api.Client, path string, query map[string][]string) (response, error) {
	resp, err := client.Logical().ReadRawWithDataWithContext(ctx, path, query)
	return received(path, resp, err)
}

// write returns what Vault answers to JSON at a path.
func write(ctx context.Context, client *api.Client, path string, body any) (response, error) {
	request := client.NewRequest(http.MethodPut, "/v1/"+path)
	if err := request.SetJSONBody(body); err != nil {
		return response{}, fmt.Errorf("write %s: %w", path, err)
	}
	resp, err := client.RawRequestWithContext(ctx, request) //nolint:staticcheck // as vault/api does it, with the status
	return received(path, resp, err)
}

func received(path string, resp *api.Response, err error) (response, error) {
	var answered *api.ResponseError // its text quotes the URL and the body: read for its type only
	if err != nil && (resp == nil || !errors.As(err, &answered)) {
		return response{}, fault.Of(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, fault.Of(fmt.Errorf("read %s: %w", path, err))
	}
	return response{resp.StatusCode, resp.Header, body}, nil
}

// saysNothing reports whether the response says nothing of what was asked, only that it
// was refused for now: by a rate limit (429), or by an Enterprise node that has yet to see
// the state that the token was made in (412).
func (r response) saysNothing() bool {
	return r.status == http.StatusTooManyRequests || r.status == http.StatusPreconditionFailed
}

// errLater is part of the error of a response that says nothing of what was asked.
var errLater = errors.New("refused for now")

// later is the error of such a response.
type later struct{ error }

func (l later) Unwrap() error        { return l.error }
func (l later) Is(target error) bool { return target == errLater }

// failure returns the error of a status that is not 200.
func (r response) failure() error {
	if r.saysNothing() {
		return later{fault.Status(r.status)}
	}
	return fault.Status(r.status)
}

// retryAfter returns for how long not to ask again, 0 if Vault does not say.
func (r response) retryAfter() time.Duration {
	n, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return min(time.Duration(max(n, 0))*time.Second, retryAfterMax)
}

// says reports whether one of Vault's errors or warnings contains a text, whatever the
// case. They are for nothing else: they may quote what was sent.
func (r response) says(text string) bool {
	var answer struct {
		Errors   []string `json:"errors"`
		Warnings []string `json:"warnings"`
	}
	_ = json.Unmarshal(r.body, &answer) // what is no JSON says nothing
	return strings.Contains(strings.ToLower(strings.Join(append(answer.Errors, answer.Warnings...), "\n")), text)
}
