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

// A response is Vault's response, whatever its status.
type response struct {
	status int
	header http.Header
	body   []byte
}

// read returns Vault's response to a read of a path.
func read(ctx context.Context, client *api.Client, path string, query map[string][]string) (response, error) {
	resp, err := client.Logical().ReadRawWithDataWithContext(ctx, path, query)
	return received(path, resp, err)
}

// write returns Vault's response to JSON written to a path.
func write(ctx context.Context, client *api.Client, path string, body any) (response, error) {
	request := client.NewRequest(http.MethodPut, "/v1/"+path)
	if err := request.SetJSONBody(body); err != nil {
		return response{}, fmt.Errorf("write %s: %w", path, err)
	}
	resp, err := client.RawRequestWithContext(ctx, request) //nolint:staticcheck // as vault/api does it, with the status
	return received(path, resp, err)
}

func received(path string, resp *api.Response, err error) (response, error) {
	var answered *api.ResponseError // its text quotes the URL and the body; only its type is used
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

// saysNothing reports whether the response only says that Vault refused the request for now, and
// nothing about what was asked: a rate limit (429), or an Enterprise node that does not yet have
// the state in which the token was created (412).
func (r response) saysNothing() bool {
	return r.status == http.StatusTooManyRequests || r.status == http.StatusPreconditionFailed
}

// errLater is part of the error for a response that says nothing about what was asked.
var errLater = errors.New("refused for now")

// later is the error for such a response.
type later struct{ error }

func (l later) Unwrap() error        { return l.error }
func (l later) Is(target error) bool { return target == errLater }

// failure returns the error for a status other than 200.
func (r response) failure() error {
	if r.saysNothing() {
		return later{fault.Status(r.status)}
	}
	return fault.Status(r.status)
}

// retryAfter returns the time to wait before the next request, 0 if Vault does not say.
func (r response) retryAfter() time.Duration {
	n, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return min(time.Duration(max(n, 0))*time.Second, retryAfterMax)
}

// says reports whether one of Vault's errors or warnings contains a text, ignoring case. These
// texts have no other use, because they may quote the request.
func (r response) says(text string) bool {
	var answer struct {
		Errors   []string `json:"errors"`
		Warnings []string `json:"warnings"`
	}
	_ = json.Unmarshal(r.body, &answer) // a body that is not JSON contains no errors
	return strings.Contains(strings.ToLower(strings.Join(append(answer.Errors, answer.Warnings...), "\n")), text)
}
