package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
	"coffeebuddy/vault"
)

// TestLease is of users that a real Vault makes in a real PostgreSQL: at every moment the credentials that are handed out are good, while
// leases are renewed, come to their max TTL, and lose the token that they were made with.
func TestLease(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	postgres, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	if errors.Is(err, devstack.ErrNoPostgres) {
		t.Skip(err)
	}
	is.NoErr(err)
	t.Cleanup(func() { closed(t, postgres.Close) })
	p, issuer := startWithJWT(t)
	is.NoErr(p.vault.ConnectPostgres(t.Context(), postgres, devstack.DatabaseOptions{TTL: 6 * time.Second, MaxTTL: 15 * time.Second}))
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", role, devstack.RoleOptions{TTL: time.Hour}))
	users := func() int {
		listed, err := postgres.Query(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'`)
		is.NoErr(err)
		n := 0
		_, err = fmt.Sscan(listed, &n)
		is.NoErr(err)
		return n
	}

	client, err := vault.New(vault.Config{
		Address: p.vault.URL,
		Login:   vault.Login{Role: role, Mount: "team/jwt", JWTFile: written(t, issuer.Token(10*time.Minute).Reveal())},
	})
	is.NoErr(err)
	lease := client.Lease("database/creds/" + devstack.DatabaseRole)
	is.Equal(users(), 0)
	versions := make(map[uint64]bool)
	good := func() {
		got, err := lease.Get(t.Context())
		is.NoErr(err)
		versions[got.Version] = true
		psql := exec.CommandContext(t.Context(), "psql", "-X", "-c", "SELECT 1", strings.Replace(postgres.URL, "//", "//"+got.Values["username"]+"@", 1))
		psql.Env = append(os.Environ(), "PGPASSWORD="+got.Values["password"])
		if output, err := psql.CombinedOutput(); err != nil {
			t.Fatalf("credentials of version %d: %v: %s", got.Version, err, output)
		}
	}
	for began := time.Now(); time.Since(began) < 35*time.Second; pause(t.Context(), 200*time.Millisecond) {
		good()
	}
	is.True(len(versions) >= 3 && len(versions) <= 6) // each lives for 15 s at most

	// With the token that they were made with the leases have ended, and with them the users.
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, "PUT", "sys/leases/revoke-prefix/auth/team/jwt/login", struct{}{}, nil))
	eventually(t, soon, func() bool { return users() == 0 })
	before, err := lease.Get(t.Context())
	is.NoErr(err) // it cannot know yet
	lease.Refused(before.Version)
	eventually(t, soon, func() bool { _, err := lease.Get(t.Context()); return err == nil })
	good()

	client.Close(t.Context())
	eventually(t, soon, func() bool { return users() == 0 }) // by the end of the login's token
}
