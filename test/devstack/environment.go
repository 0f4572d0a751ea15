package devstack

import (
	"io"
	"os"
)

// defaultHost keeps the servers to this machine.
const defaultHost = "127.0.0.1"

// plainEnvironment returns what any program needs and nothing that configures one: Hydra would take its settings, and either
// server a proxy, from the user's environment.
func plainEnvironment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
