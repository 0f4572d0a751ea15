package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
	"coffeebuddy/test/devstack/stub"
)

// A hooks is stub.Hooks with the file that the function finds its CA in.
type hooks struct {
	*stub.Hooks
	ca string
}

func startHooks(t *testing.T) hooks {
	t.Helper()
	h, err := stub.StartHooks(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, h.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	return hooks{h, ca}
}

// A broker accepts events in memory and delivers them when the test says so. It stands in for
// one that keeps what it accepts.
type broker struct {
	url string

	mu       sync.Mutex
	refuses  int // with this status; 0 accepts
	accepted []accepted
}

type accepted struct {
	header http.Header
	body   []byte
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	b := new(broker)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		switch {
		case err != nil:
		case b.refuses != 0:
			w.WriteHeader(b.refuses)
		default:
			b.accepted = append(b.accepted, accepted{r.Header.Clone(), body})
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *broker) refuse(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = status
}

func (b *broker) events() []accepted {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.accepted)
}

// deliver delivers an event to a function, and returns the status, 0 if there was none.
func (a accepted) deliver(ctx context.Context, client *http.Client, url string) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(a.body))
	if err != nil {
		return 0
	}
	request.Header = a.header.Clone()
	request.Header.Set("Ce-Knativearrivaltime", time.Now().UTC().Format(time.RFC3339Nano))
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// TestDurableSlackCommand: Slack, function, broker, function, response_url. Whatever is
// acknowledged happens, even where each pod is killed right after the acknowledgement.
func TestDurableSlackCommand(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, h, b := startPlatform(t, devstack.VaultOptions{}), startHooks(t), startBroker(t)
	variables := []string{"K_SINK=" + b.url, "HTTPS_PROXY=" + h.ProxyURL, "SSL_CERT_FILE=" + h.ca}

	f := startSlack(t, p, variables...)
	a, err := f.command(t.Context(), p.vault.SigningSecret, "/coffee echo one")
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK)
	is.Equal(a.body, "")
	is.Equal(len(b.events()), 1)
	first := b.events()[0]
	is.Equal(first.header.Get("Ce-Type"), "com.slack.command")
	is.Equal(first.deliver(t.Context(), f.client, f.url), http.StatusNoContent)
	is.Equal(h.Texts(), []string{"one"})
	is.Equal(first.deliver(t.Context(), f.client, f.url), http.StatusNoContent) // brokers deliver at least once
	is.Equal(h.Texts(), []string{"one"})

	forged := accepted{first.header.Clone(), bytes.Replace(first.body, []byte("one"), []byte("two"), 1)}
	is.Equal(forged.deliver(t.Context(), f.client, f.url), http.StatusUnprocessableEntity)
	forged = accepted{first.header.Clone(), first.body}
	forged.header.Del("Ce-Coffeebuddysignature")
	is.Equal(forged.deliver(t.Context(), f.client, f.url), http.StatusUnprocessableEntity)

	b.refuse(http.StatusServiceUnavailable)
	began := time.Now()
	a, err = f.command(t.Context(), p.vault.SigningSecret, "/coffee echo lost")
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK)
	is.True(strings.Contains(a.body, "Please try again")) // it is not acknowledged, and the user knows
	is.True(time.Since(began) < 2500*time.Millisecond)
	b.refuse(0)

	const pods = 5
	for i := range pods {
		pod := startKillable(t, p, variables...)
		a, err := pod.command(t.Context(), p.vault.SigningSecret, fmt.Sprintf("/coffee echo pod-%d", i))
		is.NoErr(err)
		is.Equal(a.status, http.StatusOK)
		pod.Kill() // with SIGKILL
	}
	for _, e := range b.events()[1:] {
		is.Equal(e.deliver(t.Context(), f.client, f.url), http.StatusNoContent)
	}
	is.Equal(h.Texts(), []string{"one", "pod-0", "pod-1", "pod-2", "pod-3", "pod-4"})
}

// startKillable is startSlack for a function that the test kills.
func startKillable(t *testing.T, p platform, variables ...string) *function {
	t.Helper()
	return startProgram(t, setting[string](functionFlag), p, variables...)
}

func startProgram(t *testing.T, path string, p platform, variables ...string) *function {
	t.Helper()
	free, err := devstack.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
	f := &function{url: "http://" + address, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}}
	f.Process, err = devstack.StartProcess(t.Context(), devstack.Command{
		Name: "function", Path: path,
		Env: slices.Concat([]string{"PORT=" + strconv.Itoa(free), "COFFEEBUDDY_HTTP_HOST=127.0.0.1", "COFFEEBUDDY_ENVIRONMENT=prod", slackSecret},
			p.environment(), variables),
		Log:   filepath.Join(t.TempDir(), "function.log"),
		Ready: func(ctx context.Context) error { return connects(ctx, address) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
