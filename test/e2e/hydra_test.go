package e2e

import (
	"net/http/httptest"
	"testing"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestHydra takes a real Hydra through its states under a running function.
func TestHydra(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*devstack.Hydra) []step{
		"hung":    func(h *devstack.Hydra) []step { return []step{{h.Freeze, "timeout"}, {done(h.Thaw), "ok"}} },
		"stopped": func(h *devstack.Hydra) []step { return []step{{h.Stop, "refused"}, {h.Start, "ok"}} },
		"killed while it hangs": func(h *devstack.Hydra) []step {
			return []step{{h.Freeze, "timeout"}, {killed(h.Process), "refused"}, {h.Start, "ok"}}
		},
		"without its database": func(h *devstack.Hydra) []step {
			return []step{{done(h.BreakDatabase), "unavailable"}, {done(h.RepairDatabase), "ok"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := startPlatform(t, devstack.VaultOptions{})
			f := start(t, p.environment()...)
			f.becomes(t, healthy(), soon)
			for range 2 { // once more: healing leaves nothing behind
				for _, step := range steps(p.hydra) {
					is.NoErr(step.do(t.Context()))
					f.becomes(t, state{vault: "ok", ory: step.want}, soon)
				}
			}
		})
	}
}

func TestHydraBehindAPathPrefix(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	proxy, err := devstack.BehindPrefix("/behind-a-proxy/ory", p.hydra.AdminURL)
	is.NoErr(err)
	server := httptest.NewServer(proxy)
	defer server.Close()
	for path, want := range map[string]string{
		"/behind-a-proxy/ory":    "ok",
		"/behind-a-proxy/ory///": "ok",
		"/behind-a-proxy":        "unavailable", // where the proxy has nothing: 404
	} {
		f := start(t, append(p.environment(), "ORY_BASE_URL="+server.URL+path)...)
		f.becomes(t, state{vault: "ok", ory: want}, soon)
	}
}

func TestBothDown(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, p.environment()...)
	f.becomes(t, healthy(), soon)
	is.NoErr(p.vault.Seal(t.Context()))
	is.NoErr(p.hydra.Stop(t.Context()))
	f.becomes(t, state{vault: "sealed", ory: "refused"}, soon)
	is.NoErr(p.vault.Unseal(t.Context()))
	f.becomes(t, state{vault: "ok", ory: "refused"}, soon)
	is.NoErr(p.hydra.Start(t.Context()))
	f.becomes(t, healthy(), soon)
}
