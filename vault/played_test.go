package vault_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"coffeebuddy/internal/servertest"
	"coffeebuddy/vault"
)

// A played Vault is a fake without a network, so that tests of minutes can run in a synctest
// bubble: the real client talks to it over an in-memory connection.
type played struct {
	lookup canned
	count  int
	token  string
	logs   servertest.Logs

	engine *engine                            // nil for none
	serve  func(*http.Request) (canned, bool) // if not nil, tried before everything else

	life *life // if not nil, answers lookups and renewals
}

func vaultPlayedInMemory(t *testing.T, lookup canned) *played {
	t.Helper()
	return &played{lookup: lookup, token: "s.canary"}
}

// client returns a client that is connected to p. Call it within the bubble.
func (p *played) client(t *testing.T) *vault.Client {
	t.Helper()
	client := newClient(t, vault.Config{
		Address: "http://vault.test", Token: func(context.Context) (string, error) { return p.token, nil }, Log: p.logs.Logger(),
	})
	vault.Dial(client, p.dial)
	return client
}

// dial returns the client's end of a connection that serves one request, on goroutines of the
// bubble.
func (p *played) dial() net.Conn {
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		req, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil {
			return
		}
		answer := canned{200, active}
		switch {
		case req.URL.Path == lookupPath && p.life != nil:
			answer = p.life.lookup()
		case req.URL.Path == renewPath && p.life != nil:
			answer = p.life.renew()
		case req.URL.Path == lookupPath:
			p.count++
			answer = p.lookup
		}
		if p.engine != nil {
			if own, ok := p.engine.serve(req); ok {
				answer = own
			}
		}
		if p.serve != nil {
			if own, ok := p.serve(req); ok {
				answer = own
			}
		}
		resp := recorded(answer)
		resp.Close = true
		_ = resp.Write(server)
	}()
	return client
}

// certificate returns the certificate of a certificate authority, as PEM.
func certificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
