package ledger_test

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
	"path/filepath"
	"testing"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/ledger"

	"github.com/matryer/is"
)

// An authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	is := is.New(t)
	is.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	is.NoErr(err)
	certificate, err := x509.ParseCertificate(der)
	is.NoErr(err)
	a := authority{certificate, key, filepath.Join(t.TempDir(), "ca.pem")}
	is.NoErr(os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// certify gives a server, which has to be started again, a certificate for a name.
func (a authority) certify(t *testing.T, p *postgres, name string, until time.Time) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	is.NoErr(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	is.NoErr(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	is.NoErr(err)
	for file, block := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		path := filepath.Join(p.data(), file)
		is.NoErr(os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
		if p.as != nil {
			is.NoErr(os.Chown(path, int(p.as.Uid), int(p.as.Gid)))
		}
	}
}

// TestTLS with a real server: what is wrong with its certificate is said, and nothing is sent
// to a server that is not the one of the URL.
func TestTLS(t *testing.T) {
	if binaries() == "" {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	ours, another := newAuthority(t), newAuthority(t)
	own, err := start("ssl=off")
	is.New(t).NoErr(err)
	t.Cleanup(own.remove)
	db := own.open("owner", "postgres")
	t.Cleanup(func() { _ = db.Close() })
	encrypted := func(l *ledger.Ledger) bool {
		return l.Check(t.Context()) == nil && one[bool](t, db, `SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tls'`)
	}
	const localhost = "127.0.0.1"
	hour := time.Now().Add(time.Hour)
	for _, test := range []struct {
		when    string
		name    string // of the certificate; "" for none
		until   time.Time
		query   string // of the URL
		want    fault.Reason
		message string
	}{
		{"the server has no TLS", "", hour, "sslrootcert=" + ours.file, fault.TLS, "tls: the server has no TLS"},
		{"the server has no TLS, and any server is good", "", hour, "sslmode=require", fault.TLS, "tls: the server has no TLS"},
		{"all is well", localhost, hour, "sslmode=verify-full&sslrootcert=" + ours.file, "", ""},
		{"verify-full is the default", localhost, hour, "sslrootcert=" + ours.file, "", ""},
		{"another authority", localhost, hour, "sslrootcert=" + another.file, fault.TLS, "tls: certificate signed by an unknown authority"},
		{"the system's authorities", localhost, hour, "", fault.TLS, "tls: certificate signed by an unknown authority"},
		{"another authority, verify-ca", localhost, hour, "sslmode=verify-ca&sslrootcert=" + another.file, fault.TLS, "tls: certificate signed by an unknown authority"},
		{"another name", "db.example.com", hour, "sslrootcert=" + ours.file, fault.TLS, "tls: certificate is not valid for this host"},
		{"another name, verify-ca", "db.example.com", hour, "sslmode=verify-ca&sslrootcert=" + ours.file, "", ""},
		{"any server, encrypted", "db.example.com", hour, "sslmode=require", "", ""},
		{"it has expired", localhost, time.Now().Add(-time.Hour), "sslrootcert=" + ours.file, fault.TLS, "tls: certificate has expired or is not yet valid"},
		{"there is no file of authorities", localhost, hour, "sslrootcert=/canary", fault.Misconfigured, "misconfigured: the file of sslrootcert cannot be used"},
		{"it has no certificate", localhost, hour, "sslrootcert=/dev/null", fault.Misconfigured, "misconfigured: the file of sslrootcert cannot be used"},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			own.stop()
			own.settings = []string{"ssl=off"}
			if test.name != "" {
				ours.certify(t, own, test.name, test.until)
				own.settings = []string{"ssl=on"}
			}
			is.NoErr(own.run())
			l, err := ledger.New(ledger.Config{
				URL: fmt.Sprintf("postgres://%s:%d/postgres?%s", localhost, own.port, test.query), Credentials: as("owner"), App: "tls",
			})
			is.NoErr(err)
			defer l.Close(t.Context())
			err = l.Check(t.Context())
			is.Equal(fault.ReasonOf(err), test.want)
			if test.want == "" {
				is.NoErr(err)
				is.True(encrypted(l))
				return
			}
			is.Equal(err.Error(), test.message)
		})
	}
}
