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

// load is 200 readiness probes a second over real connections, each sent at its time whether the ones before were answered or not.
// Beside them there are as many requests for liveness, which show how busy the machine is, and four scrapes a second.
type load struct {
	function *function
	kept     *http.Client // keeps its connections, as queue-proxy does
	fresh    *http.Client // one connection a request, as kubelet does

	inFlight sync.WaitGroup

	mu      sync.Mutex
	probes  []probed
	scrapes []scraped
	lives   []lived
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

// A lived is one response of liveness, which asks nobody. It counts from the time at which the request was due, so that a machine that
// stands still is late, too.
type lived struct{ due, answered time.Time }

// late is how late a response of liveness is on a machine that is too busy to measure time on.
const late = 20 * time.Millisecond

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
	due := func(sent int) time.Time { return began.Add(time.Duration(sent) * every) }
	for sent := 0; pause(ctx, time.Until(due(sent))); sent++ {
		client := l.kept
		if sent%freshOne == 0 {
			client = l.fresh
		}
		l.inFlight.Go(func() { l.probe(asking, client) })
		l.inFlight.Go(func() { l.live(asking, due(sent)) })
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

func (l *load) live(ctx context.Context, due time.Time) {
	a, err := get(ctx, l.kept, l.function.url+"/health/live")
	answered := time.Now()
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("status %d", a.status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Errorf("liveness: %w", err))
		return
	}
	l.lives = append(l.lives, lived{due, answered})
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

// moment returns the tenth of a second that a time is in.
func moment(at time.Time) int64 { return at.UnixMilli() / 100 }

// quiet returns the tenths of a second of the load, and of each whether no response of liveness was late in it.
func (l *load) quiet() map[int64]bool {
	quiet := make(map[int64]bool)
	for _, v := range l.lives {
		for m := moment(v.due); m <= moment(v.answered); m++ {
			before, seen := quiet[m]
			quiet[m] = (before || !seen) && v.answered.Sub(v.due) < late
		}
	}
	return quiet
}

// stall returns how late liveness was at most in a time; 0 where it was not.
func (l *load) stall(from, to time.Time) (longest time.Duration) {
	for _, v := range l.lives {
		if took := v.answered.Sub(v.due); took >= late && v.due.Before(to) && v.answered.After(from) {
			longest = max(longest, took)
		}
	}
	return longest
}

// latencies returns how long the probes took that a quiet time has seen all of, the quickest first.
func (l *load) latencies(quiet map[int64]bool) []time.Duration {
	var latencies []time.Duration
	for _, p := range l.probes {
		all := true
		for m := moment(p.asked); m <= moment(p.answered); m++ {
			all = all && quiet[m]
		}
		if all {
			latencies = append(latencies, p.answered.Sub(p.asked))
		}
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
