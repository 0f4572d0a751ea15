// Command pods is the readiness of many pods in one process, before one real Vault with TLS and one real Hydra: what docs/scale.md
// counts with. Each pod has its own verdict, clients and connections, as it would in a process of its own. What they are asked by is
// no HTTP, so that the processors are Vault's, Hydra's, and the checks' own.
//
//	go run ./pods -pods 1000
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"coffeebuddy/test/devstack"
)

func main() {
	size := flag.Int("pods", 1000, "how many pods")
	span := flag.Duration("span", 20*time.Second, "how long each state is watched")
	ttl := flag.Duration("ttl", time.Second, "COFFEEBUDDY_CHECK_TTL")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *size, *span, *ttl); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, size int, span, ttl time.Duration) error {
	vault, err := devstack.StartVault(ctx, devstack.VaultOptions{TLS: true, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { _ = vault.Close() }()
	hydra, err := devstack.StartHydra(ctx, devstack.HydraOptions{Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { _ = hydra.Close() }()
	pods, err := newPods(size, ttl, vault, hydra)
	if err != nil {
		return err
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintf(table, "%d pods\tprobes/s\tVault checks/s\tOry checks/s\tVault's cores\tHydra's cores\tthe pods' cores\n", size)
	for _, state := range []struct {
		name  string
		every time.Duration
	}{
		{"kubelet asks every 10 s", 10 * time.Second},
		{"each is asked 10 times a second", 100 * time.Millisecond},
	} {
		if err := pods.watch(ctx, table, state.name, state.every, span); err != nil {
			return fmt.Errorf("%s: %w", state.name, err)
		}
	}
	return pods.outage(ctx, table, vault, span)
}

// watch shows what a period of probes costs, once all pods are ready.
func (p *pods) watch(ctx context.Context, table io.Writer, name string, every, span time.Duration) error {
	l := p.probe(ctx, every)
	defer l.end()
	if _, err := p.until(ctx, len(p.all)); err != nil {
		return err
	}
	before := p.look()
	if err := sleep(ctx, span); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(table, "%s\t%s\n", name, p.look().since(before))
	return nil
}

// outage seals Vault, and unseals it while every pod is asked 20 times a second, which is how Knative asks one that is not ready.
func (p *pods) outage(ctx context.Context, table io.Writer, vault *devstack.Vault, span time.Duration) error {
	l := p.probe(ctx, 50*time.Millisecond)
	defer l.end()
	if err := vault.Seal(ctx); err != nil {
		return err
	}
	took, err := p.until(ctx, 0)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	_, _ = fmt.Fprintf(table, "Vault is sealed: the last pod says so after %.1f s\n", took.Seconds())
	before := p.look()
	if err := sleep(ctx, span); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(table, "… each is asked 20 times a second\t%s\n", p.look().since(before))

	before = p.look()
	if err := vault.Unseal(ctx); err != nil {
		return err
	}
	began := time.Now()
	for _, percent := range []int{1, 50, 99, 100} {
		if _, err := p.until(ctx, max(1, len(p.all)*percent/100)); err != nil {
			return fmt.Errorf("unseal: %w", err)
		}
		_, _ = fmt.Fprintf(table, "unsealed: %d %% are ready after %.1f s\n", percent, time.Since(began).Seconds())
	}
	_, _ = fmt.Fprintf(table, "… meanwhile\t%s\n", p.look().since(before))
	_, _ = fmt.Fprintf(table, "checks that ran into their deadline, in all: %d\n", p.timeouts())
	return nil
}

// sleep waits, for what is measured meanwhile.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
