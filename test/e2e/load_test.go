package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// load is 200 readiness probes a second over real connections, each sent at its time whether the ones before were answered or not,
// and four scrapes a second beside them.
type load struct {
	function *function
	kept     *http.Client // keeps its connections, as queue-proxy does
	fresh    *http.Client // one connection a request, as kubelet does

	inFlight sync.WaitGroup

	mu      sync.Mutex
	probes  []probed
	scrapes []scraped
	wrong   []error // answers that are wrong at any time, and missing ones
}

type probed struct {
	asked, answered time.Time
	state           state
}

type scraped struct {
	asked, answered time.Time
	metrics         metrics
}

func newLoad(f *function) *load {
	const patience = 2 * time.Second
	return &load{
		function: f,
		kept:     &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: patience},
		fresh:    &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
	}
}

// run returns when ctx has ended and all is answered.
func (l *load) run(ctx context.Context) {
	const (
		every    = 5 * time.Millisecond // 200 a second
		freshOne = 10                   // in so many probes one is on a connection of its own
		hangUp   = 20                   // beside every so many probes somebody hangs up
		scrape   = 50                   // beside every so many there is a scrape
	)
	defer l.kept.CloseIdleConnections()
	defer l.inFlight.Wait()
	began := time.Now()
	asking := context.WithoutCancel(ctx)
	for sent := 0; pause(ctx, time.Until(began.Add(time.Duration(sent)*every))); sent++ {
		client := l.kept
		if sent%freshOne == 0 {
			client = l.fresh
		}
		l.inFlight.Go(func() { l.probe(asking, client) })
		if sent%hangUp == 0 {
			l.inFlight.Go(func() { l.hangUp(asking, time.Duration(sent/hangUp%20)*time.Millisecond) })
		}
		if sent%scrape == 0 {
			l.inFlight.Go(func() { l.scrape(asking) })
		}
	}
}

func (l *load) probe(ctx context.Context, client *http.Client) {
	asked := time.Now()
	a, err := get(ctx, client, l.function.url+"/health/ready")
	p := probed{asked: asked, answered: time.Now()}
	if err == nil {
		p.state, err = readState(a)
	}
	err = errors.Join(err, l.secret(a))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Errorf("probe: %w", err))
		return
	}
	l.probes = append(l.probes, p)
}

// hangUp asks and does not wait for the answer: a caller who leaves changes nothing for the others.
func (l *load) hangUp(ctx context.Context, after time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	_, _ = get(ctx, l.fresh, l.function.url+"/health/ready")
}

func (l *load) scrape(ctx context.Context) {
	asked := time.Now()
	a, err := get(ctx, l.kept, l.function.url+"/metrics")
	s := scraped{asked: asked, answered: time.Now(), metrics: readMetrics(a.body)}
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("status %d", a.status)
	}
	err = errors.Join(err, l.secret(a))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Errorf("scrape: %w", err))
		return
	}
	l.scrapes = append(l.scrapes, s)
}

func (l *load) secret(a answer) error {
	if what := l.function.secrets.shownIn(a.text()); what != "" {
		return errors.New("it shows of the secret " + what)
	}
	return nil
}

// latencies returns how long the probes took, the quickest first.
func (l *load) latencies() []time.Duration {
	latencies := make([]time.Duration, 0, len(l.probes))
	for _, p := range l.probes {
		latencies = append(latencies, p.answered.Sub(p.asked))
	}
	slices.Sort(latencies)
	return latencies
}

// quantile returns the latency that a share of all is not above.
func quantile(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// above returns how many are.
func above(sorted []time.Duration, limit time.Duration) int {
	i, _ := slices.BinarySearch(sorted, limit+1)
	return len(sorted) - i
}
