// Package cluster deploys the function to the cluster of the current kubeconfig, as the README and docs/operations.md say, and
// watches it there: beside a Vault that is sealed, in a roll-out, without a pod, found by Prometheus.
//
//	go test -count=1 -v -timeout 30m ./...
//
// The cluster needs Knative Serving; without Knative Eventing one step is skipped. It is used for a namespace of the test's own, coffeebuddy, which must not be there yet. The
// machine must be able to reach its pods, and be reached by them under an address of its own (-address), where a Vault and a Hydra
// are started.
package cluster

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	addressFlag = "address"
	ingressFlag = "ingress"
)

func TestMain(m *testing.M) {
	flag.String(addressFlag, "10.244.0.1", "this machine's `address` as pods know it")
	flag.String(ingressFlag, os.Getenv("CLUSTER_INGRESS"), "`URL` of the ingress that routes to Knative's Services by Host")
	flag.Parse()
	os.Exit(m.Run())
}

func setting(name string) string { return flag.Lookup(name).Value.String() }

// Figures are what was measured, in order.
type figures struct{ lines []string }

func (f *figures) add(what, format string, args ...any) {
	f.lines = append(f.lines, fmt.Sprintf("%-62s %s", what, fmt.Sprintf(format, args...)))
}

func (f *figures) String() string { return "\nfigures\n  " + strings.Join(f.lines, "\n  ") + "\n" }
