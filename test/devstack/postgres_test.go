package devstack_test

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

func TestPostgresKeepsItsDataOverRestarts(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPostgres(t, devstack.PostgresOptions{})
	_, err := p.Query(t.Context(), "CREATE TABLE coffee (cups int); INSERT INTO coffee VALUES (3)")
	is.NoErr(err)
	is.NoErr(p.Restart(t.Context()))
	cups, err := p.Query(t.Context(), "SELECT cups FROM coffee")
	is.NoErr(err)
	is.Equal(cups, "3")
	_, err = p.Query(t.Context(), "SELECT nothing FROM nowhere")
	is.True(err != nil)
	is.True(!strings.Contains(err.Error(), p.SuperuserPassword.Reveal()))
}

func TestPostgresLeavesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPostgres(t, devstack.PostgresOptions{TLS: true})
	_, err := os.Stat(p.CAFile)
	is.NoErr(err)
	data, err := p.Query(t.Context(), "SHOW data_directory")
	is.NoErr(err)
	is.NoErr(p.Close())
	_, err = os.Stat(data)
	is.True(os.IsNotExist(err))
}

func TestVaultMakesUsersOfPostgres(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, vault := startPostgres(t, devstack.PostgresOptions{}), startVault(t, devstack.VaultOptions{})
	is.NoErr(vault.ConnectPostgres(t.Context(), p, devstack.DatabaseOptions{TTL: time.Minute, MaxTTL: time.Hour}))
	var user struct {
		LeaseID       string `json:"lease_id"`
		LeaseDuration int    `json:"lease_duration"`
		Data          struct {
			Username string          `json:"username"`
			Password devstack.Secret `json:"password"`
		} `json:"data"`
	}
	is.NoErr(vault.Call(t.Context(), vault.Token, http.MethodGet, "database/creds/"+devstack.DatabaseRole, nil, &user))
	is.Equal(user.LeaseDuration, 60)
	is.NoErr(connect(t, p, user.Data.Username, user.Data.Password))
	is.NoErr(vault.Call(t.Context(), vault.RootToken, http.MethodPut, "sys/leases/revoke", map[string]any{"lease_id": user.LeaseID, "sync": true}, nil))
	is.True(connect(t, p, user.Data.Username, user.Data.Password) != nil) // the lease has ended, so has the user
}

// connect makes a table as a user of the database.
func connect(t *testing.T, p *devstack.Postgres, user string, password devstack.Secret) error {
	t.Helper()
	psql := exec.CommandContext(t.Context(), "psql", "-X", "-c", "CREATE TABLE IF NOT EXISTS drinks (name text)", strings.Replace(p.URL, "//", "//"+user+"@", 1))
	psql.Env = append(os.Environ(), "PGPASSWORD="+password.Reveal())
	return psql.Run()
}

func startPostgres(t *testing.T, options devstack.PostgresOptions) *devstack.Postgres {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs real servers")
	}
	p, err := devstack.StartPostgres(t.Context(), options)
	if errors.Is(err, devstack.ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
