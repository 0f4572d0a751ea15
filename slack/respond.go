package slack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"coffeebuddy/internal/transport"
)

const (
	// respondTimeout is the timeout for posting one response, including its retries.
	respondTimeout = 30 * time.Second

	// attemptTimeout is the timeout of one attempt.
	attemptTimeout = 5 * time.Second

	// attempts is how often posting a response is tried. Slack accepts five posts per request.
	attempts = 3
)

// newClient returns the client for response URLs.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		// Unlike Vault and Ory, Slack is on the Internet: if there is a proxy, it is the only way
		// there. The proxy learns only the host.
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.Proxy = http.ProxyFromEnvironment
		own.MaxIdleConnsPerHost = 4
		transport = own
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a message to a response_url. After a failure that may be temporary it retries after
// one second, then after two more, or when Slack says. Anyone with the URL can write to the user,
// so the URL appears in no error and no log.
func (a *App) post(ctx context.Context, responseURL string, m message) error {
	ctx, cancel := context.WithTimeout(ctx, respondTimeout)
	defer cancel()
	err := a.postTo(ctx, responseURL, m.post())
	if err != nil {
		a.events.Log().LogAttrs(ctx, slog.LevelWarn, "a response to Slack was lost", slog.String("why", err.Error()))
	}
	return err
}

func (a *App) postTo(ctx context.Context, responseURL string, body []byte) error {
	if !a.isHook(responseURL) {
		return errors.New("there is no response_url, or it is not Slack's")
	}
	pause := time.Second
	for attempt := 1; ; attempt++ {
		after, err := a.attempt(ctx, responseURL, body)
		if err == nil || after < 0 || attempt == attempts {
			return err
		}
		pause = max(after, pause)
		if !transport.Pause(ctx, pause) {
			return err
		}
		pause *= 2
	}
}

// attempt sends a body once. With an error it returns the minimum wait before the next attempt; a
// negative value means never.
func (a *App) attempt(ctx context.Context, responseURL string, body []byte) (after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, responseURL, bytes.NewReader(body))
	if err != nil { // its text quotes the URL
		return -1, errors.New("the response_url is malformed")
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := a.client.Do(req)
	if err != nil { // its text quotes the URL too
		return 0, errors.New("it did not answer")
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return 0, nil
	case resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500:
		return -1, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
	return time.Duration(seconds) * time.Second, fmt.Errorf("it answered %d", resp.StatusCode)
}

// isHook reports whether a URL points to a host that response URLs may use.
func (a *App) isHook(responseURL string) bool {
	u, err := url.Parse(responseURL)
	return err == nil && u.User == nil && slices.Contains(a.config.Hooks, u.Scheme+"://"+u.Host)
}
