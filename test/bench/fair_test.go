package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// TestPeersAreBuiltOfNothingOfOurs, nor of what only we need: else their size, start and memory are ours.
func TestPeersAreBuiltOfNothingOfOurs(t *testing.T) {
	t.Parallel()
	for peer, own := range map[string]string{
		"bare": "", "health": "alexliesenfeld/health", "promhttp": "prometheus/client_golang", "sdk": "cloudevents/sdk-go", "funcgo": "knative.dev/func-go",
	} {
		t.Run(peer, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/"+peer).Output()
			is.NoErr(err)
			is.True(strings.Contains(string(out), own))
			for pkg := range strings.FieldsSeq(string(out)) {
				ours := strings.HasPrefix(pkg, "coffeebuddy") && !strings.HasPrefix(pkg, "coffeebuddy/test/bench/")
				is.True(!ours)                                                                        // a package of the function
				is.True(!strings.Contains(pkg, "hashicorp/"))                                         // vault/api
				is.True(peer == "sdk" || peer == "funcgo" || !strings.Contains(pkg, "json-iterator")) // which the SDK brings
			}
		})
	}
}

func TestInstructionsAreRead(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	is.Equal(total.FindStringSubmatch("==1== \n==1== I   refs:      1,234,567\n")[1], "1,234,567")
	all, err := parseReceive([]byte("BenchmarkReceive/binary/handler-2  100  36196 ns/op  6374 cpu-ns/op  1272 B/op  12 allocs/op\n" +
		"BenchmarkReceive/binary/handler-2  100  36196 ns/op  6000.5 cpu-ns/op  1272 B/op  12 allocs/op\n"))
	is.NoErr(err)
	is.Equal(all, []receive{{What: "binary", Who: "handler", CPU: 6000.5, Allocations: 12}})
	_, err = parseReceive([]byte("PASS"))
	is.True(err != nil)
}
