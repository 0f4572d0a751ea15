package devstack_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestStackBesideAnother(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	first := startStack(t, devstack.Options{})

	var said bytes.Buffer
	wanted := portOf(t, first.Vault.URL)
	second := startStack(t, devstack.Options{
		Ports:    devstack.Ports{Vault: wanted, Function: first.FunctionPort},
		Progress: &said,
	})
	is.True(portOf(t, second.Vault.URL) > wanted)
	is.True(second.FunctionPort > first.FunctionPort) // although nobody listens there yet
	is.True(strings.Contains(said.String(), fmt.Sprintf("port %d is taken: Vault takes %d\n", wanted, portOf(t, second.Vault.URL))))
	is.True(strings.Contains(said.String(), fmt.Sprintf("port %d is taken: the function takes %d\n", first.FunctionPort, second.FunctionPort)))

	is.NoErr(second.Close())
	is.Equal(health(t, first.Vault), http.StatusOK) // the first is untouched
	is.Equal(readiness(t, first.Hydra), http.StatusOK)
}

func TestStackLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	stack := startStack(t, devstack.Options{})

	folder := filepath.Dir(stack.EnvFile)
	info, err := os.Stat(stack.EnvFile)
	is.NoErr(err)
	is.Equal(info.Mode().Perm(), os.FileMode(0o600)) // it holds a token
	is.NoErr(stack.Close())
	is.NoErr(stack.Close()) // again
	is.True(!stack.Vault.Running())
	is.True(!stack.Hydra.Running())
	_, err = os.Stat(folder)
	is.True(os.IsNotExist(err))
}

func TestStackSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const secret = devstack.Secret("hvs.real")
	client := devstack.Client{ID: "id", Secret: secret}
	is.True(!strings.Contains(fmt.Sprintf("%v %+v %#v %s %q", secret, client, client, secret, secret), secret.Reveal()))
}

func startStack(t *testing.T, options devstack.Options) *devstack.Stack {
	t.Helper()
	needBinaries(t)
	if options.Progress == nil {
		options.Progress = t.Output()
	}
	stack, err := devstack.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	})
	return stack
}

// needBinaries skips a test that runs real servers, which may have to be built first, with -short.
func needBinaries(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs real servers")
	}
}

func portOf(t *testing.T, url string) int {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return address.Port
}

// eventually waits until condition holds.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen in 20 s")
		}
	}
}
