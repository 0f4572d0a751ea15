package queueproxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/matryer/is"
)

// The network is a bridge on the host, and for each pod a namespace with a link to it: ports that queue-proxy's code fixes can be
// those of several pods then. All names hold the number of this process, so that what a killed one has left can be told.
const (
	linkPrefix      = "cbqp"         // of the bridge, cbqp<pid>, and of the pods' links, cbqp<pid>v<number>
	namespacePrefix = "coffeebuddy-" // of the namespaces, coffeebuddy-<pid>-<number>, which only this process sees
	namespaceFolder = "/run/netns"   // where ip keeps them
)

// Addresses in the subnet, by their last number.
const (
	hostAddress  = 1 // this machine's own; Hydra's, too
	vaultAddress = 2 // also this machine's; a pod can lose sight of it alone
	firstPod     = 10
	lastPod      = 250
)

func bridgeOf(pid int) string { return linkPrefix + strconv.Itoa(pid) }

func address(last int) string { return setting[string](subnetFlag) + "." + strconv.Itoa(last) }

// ip runs iproute2's command.
func ip(ctx context.Context, args ...string) error {
	output, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// makeNetwork makes the bridge, in a subnet that no link of this machine has.
func makeNetwork(ctx context.Context) error {
	if err := removeStale(); err != nil {
		return fmt.Errorf("remove the network of a killed run: %w", err)
	}
	if setting[string](subnetFlag) == "" {
		subnet, err := freeSubnet(os.Getpid())
		if err != nil {
			return err
		}
		if err := flag.Set(subnetFlag, subnet); err != nil {
			return err
		}
	}
	bridge := bridgeOf(os.Getpid())
	// A bridge without an address of its own takes one of its links', and another one when that goes: pods would lose sight of it.
	const hardware = "02:00:00:00:01:01"
	if err := ip(ctx, "link", "add", bridge, "address", hardware, "type", "bridge"); err != nil {
		return err
	}
	for _, last := range []int{hostAddress, vaultAddress} {
		if err := ip(ctx, "address", "add", address(last)+"/24", "dev", bridge); err != nil {
			return err
		}
	}
	return ip(ctx, "link", "set", bridge, "up")
}

// freeSubnet returns one of 10.245.0.0/16: another for each process, most likely.
func freeSubnet(seed int) (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, a := range addresses {
		taken[a.String()[:strings.LastIndexAny(a.String(), ".:")]] = true
	}
	for i := range 256 {
		subnet := fmt.Sprintf("10.245.%d", (seed+i)%256)
		if !taken[subnet] {
			return subnet, nil
		}
	}
	return "", errors.New("no subnet of 10.245.0.0/16 is free")
}

// removeNetwork removes all links of a process, whose namespaces are gone with it or with their tests.
func removeNetwork(pid int) error {
	var errs []error
	links, _ := filepath.Glob("/sys/class/net/" + bridgeOf(pid) + "v*") // the pattern is a good one
	for _, link := range links {
		if _, err := net.InterfaceByName(filepath.Base(link)); err == nil { // else it went with its namespace, or with its other end
			errs = append(errs, ip(context.Background(), "link", "delete", filepath.Base(link)))
		}
	}
	if _, err := net.InterfaceByName(bridgeOf(pid)); err == nil {
		errs = append(errs, ip(context.Background(), "link", "delete", bridgeOf(pid)))
	}
	return errors.Join(errs...)
}

// removeStale removes the networks of processes that are no more.
func removeStale() error {
	var errs []error
	for pid := range leftNetworks() {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			errs = append(errs, removeNetwork(pid))
		}
	}
	return errors.Join(errs...)
}

// leftNetworks returns the processes that links are named after.
func leftNetworks() map[int]bool {
	links, _ := filepath.Glob("/sys/class/net/" + linkPrefix + "*") // the pattern is a good one
	pids := make(map[int]bool)
	for _, link := range links {
		name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(link), linkPrefix), "v")
		if pid, err := strconv.Atoi(name); err == nil {
			pids[pid] = true
		}
	}
	return pids
}

// A namespace is a pod's network: its loopback, and a link to the bridge.
type namespace struct {
	pid  int // of the process that made it
	last int // number of its address
}

func (n namespace) name() string    { return fmt.Sprintf("%s%d-%d", namespacePrefix, n.pid, n.last) }
func (n namespace) link() string    { return fmt.Sprintf("%s%dv%d", linkPrefix, n.pid, n.last) }
func (n namespace) path() string    { return filepath.Join(namespaceFolder, n.name()) }
func (n namespace) address() string { return address(n.last) }

func (n namespace) exists() bool {
	_, err := os.Stat(n.path())
	return err == nil
}

// newNamespace makes a namespace that goes with the test.
func newNamespace(t *testing.T) namespace {
	t.Helper()
	n := namespace{pid: os.Getpid(), last: firstPod}
	for ; ; n.last++ { // whoever makes the namespace has its number
		if n.exists() {
			continue
		}
		err := ip(t.Context(), "netns", "add", n.name())
		if err == nil {
			break
		}
		if n.last > lastPod || !n.exists() {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := n.remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	// An address keeps its hardware when another pod gets it, as this machine remembers which one to send to.
	hardware := fmt.Sprintf("02:00:00:00:02:%02x", n.last)
	for _, args := range [][]string{
		{"link", "add", n.link(), "type", "veth", "peer", "name", "eth0", "address", hardware, "netns", n.name()},
		{"link", "set", n.link(), "master", bridgeOf(n.pid), "up"},
		{"-n", n.name(), "address", "add", n.address() + "/24", "dev", "eth0"},
		{"-n", n.name(), "link", "set", "eth0", "up"},
		{"-n", n.name(), "link", "set", "lo", "up"},
	} {
		if err := ip(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// remove removes the link first: the kernel takes its time to do so when the namespace goes, and the number may be another pod's by
// then.
func (n namespace) remove(ctx context.Context) error {
	var err error
	if _, missing := net.InterfaceByName(n.link()); missing == nil {
		err = ip(ctx, "link", "delete", n.link())
	}
	return errors.Join(err, ip(ctx, "netns", "delete", n.name()))
}

// loseVault makes Vault's address one that nobody answers at, nor refuses: what the pod sends there goes to a machine that is none.
func (n namespace) loseVault(ctx context.Context) error {
	return ip(ctx, "-n", n.name(), "neighbour", "replace", address(vaultAddress), "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
}

// findVault undoes loseVault.
func (n namespace) findVault(ctx context.Context) error {
	return ip(ctx, "-n", n.name(), "neighbour", "delete", address(vaultAddress), "dev", "eth0")
}

func TestRemovesWhatAKilledRunHasLeft(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ended := exec.Command("true")
	is.NoErr(ended.Run())
	left := namespace{pid: ended.Process.Pid, last: firstPod}
	is.NoErr(ip(t.Context(), "link", "add", bridgeOf(left.pid), "type", "bridge"))
	is.NoErr(ip(t.Context(), "link", "add", left.link(), "type", "veth", "peer", "name", left.link()+"p"))
	own := newNamespace(t)

	is.NoErr(removeStale())
	is.True(!leftNetworks()[left.pid])
	is.True(leftNetworks()[own.pid]) // those of a run which lives stay
}
