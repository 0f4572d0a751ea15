package devstack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// authority is a private certificate authority, made anew for each server.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate: certificate, key: key}, err
}

// issue returns a server's certificate for host, an address or a name, and its key, both in PEM.
func (a *authority) issue(host string) (certificate, key []byte, err error) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := newTemplate(host)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &pair.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encodedKey}), nil
}

// write puts the authority's certificate into a PEM file.
func (a *authority) write(path string) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}), 0o600)
}

func newTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour),
	}
}

// certificates are the TLS files of a server.
type certificates struct {
	cert, key string // the server's
	ca        string // who signed it
	wrongCA   string // one that did not
	trusted   *x509.CertPool
}

func newCertificates(dir *state, host string) (*certificates, error) {
	c := &certificates{
		cert: dir.file("server.pem"), key: dir.file("server-key.pem"),
		ca: dir.file("ca.pem"), wrongCA: dir.file("wrong-ca.pem"), trusted: x509.NewCertPool(),
	}
	if err := c.make(host); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	return c, nil
}

func (c *certificates) make(host string) error {
	right, err := newAuthority("devstack")
	if err != nil {
		return err
	}
	wrong, err := newAuthority("devstack")
	if err != nil {
		return err
	}
	cert, key, err := right.issue(host)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.cert, cert, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.key, key, 0o600); err != nil {
		return err
	}
	if err := wrong.write(c.wrongCA); err != nil {
		return err
	}
	c.trusted.AddCert(right.certificate)
	return right.write(c.ca)
}
