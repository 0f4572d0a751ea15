package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// StatusError is an answer with another status than 2xx.
type StatusError struct {
	Method, Path string
	Status       int
	Body         string // its start
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: status %d: %s", e.Method, e.Path, e.Status, e.Body)
}

// newHTTPClient returns a client that goes straight to the servers of this machine: no proxy, and no connection kept from a server's
// life before a restart.
func newHTTPClient(transport *http.Transport) *http.Client {
	transport.Proxy = nil
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// call sends in as JSON, or as a form if it is url.Values, and decodes a 2xx answer into out. Either may be nil.
func call(ctx context.Context, client *http.Client, method, url string, header http.Header, in, out any) error {
	request, err := newRequest(ctx, method, url, in)
	if err != nil {
		return err
	}
	maps.Copy(request.Header, header)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		start := strings.Join(strings.Fields(string(body[:min(len(body), 300)])), " ")
		return &StatusError{Method: method, Path: request.URL.Path, Status: response.StatusCode, Body: start}
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

func newRequest(ctx context.Context, method, address string, in any) (*http.Request, error) {
	var body bytes.Buffer
	contentType := "application/json"
	switch in := in.(type) {
	case nil:
	case url.Values:
		contentType = "application/x-www-form-urlencoded"
		body.WriteString(in.Encode())
	default:
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, address, &body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	return request, nil
}
