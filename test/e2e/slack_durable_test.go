package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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
)

// A hooks stands in for https://hooks.slack.com: it is the proxy that the function goes out
// through, and what it reaches there.
type hooks struct {
	proxy, ca string // URL of the proxy, file of the CA to trust

	mu    sync.Mutex
	posts []string
}

// startHooks starts a proxy on loopback with a certificate of its own for hooks.slack.com.
func startHooks(t *testing.T) *hooks {
	t.Helper()
	certificate, ca := selfSigned(t, "hooks.slack.com")
	h := &hooks{ca: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(h.ca, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "hooks.slack.com:443" {
			http.Error(w, "only to hooks.slack.com", http.StatusForbidden)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		for reader := bufio.NewReader(secure); ; {
			request, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			body, err := io.ReadAll(request.Body)
			if err != nil {
				return
			}
			h.mu.Lock()
			h.posts = append(h.posts, string(body))
			h.mu.Unlock()
			_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	t.Cleanup(proxy.Close)
	h.proxy = proxy.URL
	return h
}

// texts returns the texts that were posted, in order, without the braces around them.
func (h *hooks) texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for _, post := range h.posts {
		_, text, _ := strings.Cut(post, `"text":"`)
		texts = append(texts, strings.TrimSuffix(text, `"}`))
	}
	slices.Sort(texts)
	return texts
}

// selfSigned returns a certificate for a host and its PEM.
func selfSigned(t *testing.T, host string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
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
	variables := []string{"K_SINK=" + b.url, "HTTPS_PROXY=" + h.proxy, "SSL_CERT_FILE=" + h.ca}

	f := startSlack(t, p, variables...)
	a, err := f.command(t.Context(), p.vault.SigningSecret, "/coffee echo one")
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK)
	is.Equal(a.body, "")
	is.Equal(len(b.events()), 1)
	first := b.events()[0]
	is.Equal(first.header.Get("Ce-Type"), "com.slack.command")
	is.Equal(first.deliver(t.Context(), f.client, f.url), http.StatusNoContent)
	is.Equal(h.texts(), []string{"one"})
	is.Equal(first.deliver(t.Context(), f.client, f.url), http.StatusNoContent) // brokers deliver at least once
	is.Equal(h.texts(), []string{"one"})

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
	is.Equal(h.texts(), []string{"one", "pod-0", "pod-1", "pod-2", "pod-3", "pod-4"})
}

// startKillable is startSlack for a function that the test kills.
func startKillable(t *testing.T, p platform, variables ...string) *function {
	t.Helper()
	free, err := devstack.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
	f := &function{url: "http://" + address, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}}
	f.Process, err = devstack.StartProcess(t.Context(), devstack.Command{
		Name: "function", Path: setting[string](functionFlag),
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
