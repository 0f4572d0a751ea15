package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
	"coffeebuddy/test/devstack/stub"
)

// TestBrokerDeliversUntilTheReceiverIsDone: a durable command whose receiver fails three times, one that is refused for good, and
// one whose process is killed with SIGKILL after Slack's 200 and before the receiver's end.
func TestBrokerDeliversUntilTheReceiverIsDone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	program := filepath.Join(t.TempDir(), "gate")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./gate").CombinedOutput()
	is.NoErr(errors.Join(err, nonEmpty(output)))
	gate, err := stub.StartGate(t.Context(), "127.0.0.1")
	is.NoErr(err)
	t.Cleanup(func() { _ = gate.Close() })
	p, h := startPlatform(t, devstack.VaultOptions{}), startHooks(t)
	var current atomic.Pointer[function]
	b := startEventing(t, func() string { return current.Load().url })
	start := func() {
		current.Store(startProgram(t, program, p, "K_SINK="+b.url, "HTTPS_PROXY="+h.ProxyURL, "SSL_CERT_FILE="+h.ca, "GATE_URL="+gate.URL))
	}
	start()
	acknowledged := func(name string) {
		a, err := current.Load().command(t.Context(), p.vault.SigningSecret, "/coffee gate "+name)
		is.NoErr(err)
		is.Equal(a.status, http.StatusOK)
		is.Equal(a.body, "")
	}
	delivered := func() { eventually(t, time.Minute, func() bool { pending, _, _ := b.state(); return pending == 0 }) }

	acknowledged("fails")
	delivered()
	is.Equal(gate.Asked("fails"), 4)
	is.Equal(h.Texts(), []string{"fails"})

	acknowledged("refused")
	delivered()
	is.Equal(gate.Asked("refused"), 1) // not tried again
	_, retried, dead := b.state()
	is.Equal(retried, 3)
	is.Equal(len(dead), 1)
	is.Equal(len(h.Texts()), 2) // the user is told

	acknowledged("hangs")
	eventually(t, soon, func() bool { return gate.Asked("hangs") == 1 })
	current.Load().Kill() // with SIGKILL
	start()
	delivered()
	is.Equal(gate.Asked("hangs"), 2)
	is.Equal(h.Texts()[2], "hangs")
	_, _, dead = b.state()
	is.Equal(len(dead), 1)
}

// nonEmpty returns a program's output as an error.
func nonEmpty(output []byte) error {
	if len(output) == 0 {
		return nil
	}
	return fmt.Errorf("%s", output)
}
