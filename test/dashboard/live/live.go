// Package live runs the function in pods of its own, on a real Vault and a real Ory Hydra, under traffic and with outages,
// scraped by a real Prometheus: what a dashboard has to show.
package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// A Run is a story that was played.
type Run struct {
	Prometheus string    // its URL
	From, To   time.Time // of the story
}

// ScrapeInterval is that of the Prometheus.
const ScrapeInterval = 2 * time.Second

// Play plays a story that takes so long, with what it needs in a folder. Others are scraped as well. The servers run until
// ctx ends.
func Play(ctx context.Context, dir string, length time.Duration, progress io.Writer, others ...devstack.Pod) (*Run, error) {
	s := &story{dir: dir, length: length, progress: progress, others: others}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	run := &Run{Prometheus: s.prometheus.URL, From: time.Now()}
	if err := s.play(ctx); err != nil {
		return nil, err
	}
	run.To = time.Now()
	return run, nil
}

// A story is what happens to the servers and to three pods: a and b of one revision, and c of the next.
type story struct {
	dir      string
	length   time.Duration
	progress io.Writer
	others   []devstack.Pod

	began       time.Time
	vault       *devstack.Vault
	hydra       *devstack.Hydra
	postgres    *devstack.Postgres
	prometheus  *devstack.Prometheus
	a, b, c     *pod
	traffic     traffic
	program     string
	environment []string
	inTrouble   atomic.Bool
}

// after returns a part of the story's length.
func (s *story) after(part float64) time.Duration { return time.Duration(part * float64(s.length)) }

func (s *story) prepare(ctx context.Context) (err error) {
	if err := devstack.Build(ctx, s.progress); err != nil {
		return err
	}
	if s.program, err = build(ctx, s.dir); err != nil {
		return err
	}
	if s.vault, err = devstack.StartVault(ctx, devstack.VaultOptions{}); err != nil {
		return err
	}
	if s.hydra, err = devstack.StartHydra(ctx, devstack.HydraOptions{}); err != nil {
		return err
	}
	if s.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresOptions{}); err != nil {
		return err
	}
	// A user's lease ends sooner than the story.
	if err := s.vault.ConnectPostgres(ctx, s.postgres, devstack.DatabaseOptions{TTL: s.after(0.25), MaxTTL: s.after(0.3)}); err != nil {
		return err
	}
	access, err := s.hydra.AccessToken(ctx, s.hydra.Client, devstack.EventsScope)
	if err != nil {
		return err
	}
	// Renewed when a third of its time is left, which is longer than Vault is sealed.
	token, err := s.vault.CreateToken(ctx, devstack.TokenOptions{Period: s.after(0.6)})
	if err != nil {
		return err
	}
	sink, err := serveSink(ctx, &s.inTrouble)
	if err != nil {
		return err
	}
	s.traffic = traffic{token: access, signing: s.vault.SigningSecret, client: &http.Client{Timeout: 10 * time.Second}}
	s.environment = []string{
		"VAULT_ADDR=" + s.vault.URL, "VAULT_TOKEN=" + token.Reveal(), "ORY_BASE_URL=" + s.hydra.AdminURL,
		"COFFEEBUDDY_HTTP_HOST=127.0.0.1", "COFFEEBUDDY_ENVIRONMENT=prod", "COFFEEBUDDY_ECHO=true", "COFFEEBUDDY_EVENTS_SCOPE=" + devstack.EventsScope,
		"COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret", "COFFEEBUDDY_EVENT_TIMEOUT=3s",
		"K_SINK=" + sink, "COFFEEBUDDY_LEDGER=" + s.postgres.URL, "COFFEEBUDDY_LEDGER_SECRET=database/creds/" + devstack.DatabaseRole,
		"GOMEMLIMIT=224MiB", // of knative/400-service.yaml
	}
	pods := s.others
	for _, p := range []struct {
		pod              **pod
		revision, suffix string
	}{{&s.a, "coffeebuddy-00001", "5c9f7-h2k4p"}, {&s.b, "coffeebuddy-00001", "5c9f7-x8wq6"}, {&s.c, "coffeebuddy-00002", "7d6b4-m3n9z"}} {
		if *p.pod, err = newPod(ctx, p.revision, p.suffix); err != nil {
			return err
		}
		pods = append(pods, (*p.pod).scraped())
	}
	s.prometheus, err = devstack.StartPrometheus(ctx, devstack.PrometheusOptions{Pods: pods})
	return err
}

// play plays the story: steps at parts of its length, one after the other.
func (s *story) play(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer s.traffic.sent.Wait()
	defer end()
	s.began = time.Now()
	trouble := func(in bool) func(context.Context) error {
		return func(context.Context) error { s.inTrouble.Store(in); return nil }
	}
	for _, step := range []struct {
		at   float64
		what string
		do   func(context.Context) error
	}{
		{0, "two pods start", func(ctx context.Context) error { return errors.Join(s.start(ctx, s.a), s.start(ctx, s.b)) }},
		{0.15, "a receiver has trouble", trouble(true)},
		{0.25, "it has none any more", trouble(false)},
		{0.32, "Vault is sealed", s.vault.Seal},
		{0.44, "Vault is unsealed", s.vault.Unseal},
		{0.54, "Hydra loses its database", func(context.Context) error { return s.hydra.BreakDatabase() }},
		{0.62, "Hydra has it again", func(context.Context) error { return s.hydra.RepairDatabase() }},
		{0.68, "too much comes at a time", func(ctx context.Context) error { s.rush(ctx); return nil }},
		{0.78, "a pod of the next revision starts", func(ctx context.Context) error { return s.start(ctx, s.c) }},
		{0.84, "an old one is stopped", func(ctx context.Context) error { s.b.ready.Store(false); return s.b.process.Stop(ctx) }},
		{0.90, "the other runs out of memory and is started again", func(ctx context.Context) error {
			s.a.process.Kill()
			return s.a.process.Start(ctx)
		}},
		{1, "the end", s.scraped},
	} {
		if err := s.until(ctx, step.at); err != nil {
			return err
		}
		fmt.Fprintf(s.progress, "%4.0f s: %s\n", time.Since(s.began).Seconds(), step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// scraped waits until Prometheus has seen that pod a has started again. On a busy machine that takes a scrape or two more.
func (s *story) scraped(ctx context.Context) error {
	client, err := api.NewClient(api.Config{Address: s.prometheus.URL})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	query := fmt.Sprintf(`changes(process_start_time_seconds{pod=%[1]q}[5m]) > 0 and on (pod) up{pod=%[1]q} == 1`, s.a.name)
	for {
		value, _, _, err := prometheus.NewAPI(client).Query(ctx, query, time.Now())
		if err != nil {
			return fmt.Errorf("ask for the start of %s: %w", s.a.name, err)
		}
		if found, ok := value.(model.Vector); ok && len(found) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the new start of %s was not scraped: %w", s.a.name, ctx.Err())
		case <-tick.C:
		}
	}
}

// until waits for a part of the story.
func (s *story) until(ctx context.Context, part float64) error {
	timer := time.NewTimer(time.Until(s.began.Add(s.after(part))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// start starts a pod and has traffic flow to it.
func (s *story) start(ctx context.Context, p *pod) error {
	log, err := os.MkdirTemp(s.dir, "pod-")
	if err != nil {
		return err
	}
	if err := p.start(ctx, s.program, log, s.environment); err != nil {
		return err
	}
	s.traffic.sent.Go(func() {
		s.traffic.flow(ctx, p, 20, func() []string {
			if s.inTrouble.Load() {
				return trouble()
			}
			return usual()
		})
	})
	return nil
}

// rush sends to pod b more than it takes at a time, for a twentieth of the story.
func (s *story) rush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.after(0.05))
	s.traffic.sent.Go(func() {
		defer cancel()
		s.traffic.flow(ctx, s.b, 60, rush)
	})
}
