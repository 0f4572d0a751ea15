package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/ory"
	"coffeebuddy/test/bench/internal/processes"
	"coffeebuddy/test/devstack"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// pods do nothing but answer probes.
type pods struct {
	all          []*pod
	vault, hydra int // process ids
	probes       atomic.Int64
}

type pod struct {
	readiness *checks.Readiness
	registry  *prometheus.Registry
	ready     atomic.Bool // as last answered
}

func newPods(size int, ttl time.Duration, server *devstack.Vault, hydra *devstack.Hydra) (*pods, error) {
	p := &pods{vault: server.PID(), hydra: hydra.PID()}
	for range size {
		asksOry, err := ory.New(ory.Config{BaseURL: hydra.AdminURL})
		if err != nil {
			return nil, err
		}
		asksVault, err := vault.New(vault.Config{Address: server.URL, CACert: server.CAFile, Token: vault.FixedToken(server.Token.Reveal())})
		if err != nil {
			return nil, err
		}
		readiness, err := checks.New(
			checks.Options{TTL: ttl, Timeout: 2 * time.Second},
			checks.NewOry(asksOry, nil),
			checks.NewVault(asksVault),
		)
		if err != nil {
			return nil, err
		}
		one := &pod{registry: prometheus.NewRegistry(), readiness: readiness}
		if err := one.registry.Register(one.readiness); err != nil {
			return nil, err
		}
		p.all = append(p.all, one)
	}
	return p, nil
}

// A load is all pods being asked.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup
}

// probe asks every pod once in each period, each at a moment of its own.
func (p *pods) probe(ctx context.Context, every time.Duration) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop}
	for _, one := range p.all {
		l.running.Go(func() {
			if sleep(ctx, rand.N(every)) != nil {
				return
			}
			tick := time.NewTicker(every)
			defer tick.Stop()
			for {
				one.ready.Store(one.readiness.Verdict(context.WithoutCancel(ctx)).Ready())
				p.probes.Add(1)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// until waits until so many pods have said that they are ready, or more; for 0, until none has.
func (p *pods) until(ctx context.Context, ready int) (time.Duration, error) {
	const patience = 5 * time.Minute
	began := time.Now()
	for {
		n := 0
		for _, one := range p.all {
			if one.ready.Load() {
				n++
			}
		}
		if n >= ready && (ready > 0 || n == 0) {
			return time.Since(began), nil
		}
		if time.Since(began) > patience {
			return 0, fmt.Errorf("%d of %d pods are ready after %s", n, len(p.all), patience)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// A look is what has been counted until now.
type look struct {
	at         time.Time
	probes     int64
	vault, ory float64          // checks
	cpu        [3]time.Duration // of Vault, of Hydra, of this process
}

func (p *pods) look() look {
	l := look{at: time.Now(), probes: p.probes.Load()}
	for _, one := range p.all {
		for _, m := range one.series("coffeebuddy_dependency_checks_total") {
			if label(m, "dependency") == "vault" {
				l.vault += m.GetCounter().GetValue()
			} else {
				l.ory += m.GetCounter().GetValue()
			}
		}
	}
	for i, pid := range []int{p.vault, p.hydra, os.Getpid()} {
		l.cpu[i] = processes.Time(pid)
	}
	return l
}

// since says what has happened after an earlier look, per second.
func (l look) since(before look) string {
	span := l.at.Sub(before.at).Seconds()
	cells := []string{
		fmt.Sprintf("%.0f", float64(l.probes-before.probes)/span),
		fmt.Sprintf("%.0f", (l.vault-before.vault)/span),
		fmt.Sprintf("%.0f", (l.ory-before.ory)/span),
	}
	for i := range l.cpu {
		cells = append(cells, fmt.Sprintf("%.2f", (l.cpu[i]-before.cpu[i]).Seconds()/span))
	}
	return strings.Join(cells, "\t")
}

// timeouts returns how many checks have run into their deadline, in all pods.
func (p *pods) timeouts() int {
	n := 0.0
	for _, one := range p.all {
		for _, m := range one.series("coffeebuddy_dependency_check_failures_total") {
			if label(m, "reason") == string(checks.ReasonTimeout) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int(n)
}

func (p *pod) series(name string) []*dto.Metric {
	families, _ := p.registry.Gather() // of one collector, which is consistent
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()
		}
	}
	return nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
