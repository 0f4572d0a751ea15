// Package stub has small servers that the function calls in tests, where the real one is out of reach.
package stub

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const hooksHost = "hooks.slack.com"

// Hooks stands in for https://hooks.slack.com: it is the proxy that the function goes out through (HTTPS_PROXY), and the server
// behind it.
type Hooks struct {
	ProxyURL string
	CA       []byte // PEM, for SSL_CERT_FILE

	server *http.Server
	mu     sync.Mutex
	posts  []string
}

// StartHooks starts it on a free port of host, with a certificate of its own.
func StartHooks(ctx context.Context, host string) (*Hooks, error) {
	certificate, ca, err := selfSigned(hooksHost)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", hooksHost, err)
	}
	h := &Hooks{CA: ca}
	h.ProxyURL, h.server, err = serve(ctx, host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != hooksHost+":443" {
			http.Error(w, "only to "+hooksHost, http.StatusForbidden)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		h.receive(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}))
	}))
	return h, err
}

func (h *Hooks) receive(conn net.Conn) {
	for reader := bufio.NewReader(conn); ; {
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
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

// Texts returns the texts of the messages that were posted, sorted.
func (h *Hooks) Texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for _, post := range h.posts {
		var message struct{ Text string }
		if err := json.Unmarshal([]byte(post), &message); err != nil {
			message.Text = post
		}
		texts = append(texts, message.Text)
	}
	slices.Sort(texts)
	return texts
}

// Close stops it.
func (h *Hooks) Close() error { return h.server.Close() }

// serve serves on a free port of host, and returns the URL.
func serve(ctx context.Context, host string, handler http.Handler) (string, *http.Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), server, nil
}

// selfSigned returns a certificate for a host and its PEM.
func selfSigned(host string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
