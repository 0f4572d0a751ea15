package main

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A sample is what came of requests at a fixed rate.
type sample struct {
	latencies  []time.Duration // of every request, from when it was due; sorted
	inTime     int             // answered before the span was over
	unanswered int             // when the server's patience ended; they are among latencies with the time until then
	span       time.Duration
	errs       []error // connections that broke, wrong statuses
}

// openLoop sends requests at a fixed rate for a time, whether those before were answered or not, as long as a connection is
// free; else they wait for one. A latency is counted from when the request was due, and so has that wait, and every stall, in it.
func openLoop(to *server, r request, perSecond float64, span time.Duration, conns int) sample {
	count := max(1, int(perSecond*span.Seconds()))
	every := time.Duration(float64(time.Second) / perSecond)
	due := make(chan time.Time, count)
	began := time.Now().Add(20 * time.Millisecond) // for the connections
	end := began.Add(span)
	var (
		mu     sync.Mutex
		total  = sample{span: span}
		asking sync.WaitGroup
	)
	for range min(conns, count, max(1, int(3*perSecond))) { // more would each be silent for so long that servers close them
		asking.Go(func() {
			s := answerDue(to, r, due, end)
			mu.Lock()
			defer mu.Unlock()
			total.add(s)
		})
	}
	pace(due, began, every, count)
	asking.Wait()
	for at := range due { // when all connections are broken, or patience has ended
		total.unanswered++
		total.latencies = append(total.latencies, time.Since(at))
	}
	total.sort()
	return total
}

// pace sends each request's time when it has come. It has a thread of its own, so that the scheduler does not make it late.
func pace(due chan<- time.Time, began time.Time, every time.Duration, count int) {
	defer close(due)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range count {
		at := began.Add(time.Duration(i) * every)
		for time.Now().Before(at) {
			pause(time.Until(at))
		}
		due <- at
	}
}

// answerDue asks what is due on one connection, until patience ends.
func answerDue(to *server, r request, due <-chan time.Time, end time.Time) (s sample) {
	c, err := dial(to.address)
	if err != nil {
		s.errs = append(s.errs, err)
		return s
	}
	defer c.Close()
	last := end.Add(to.patience)
	if err := c.SetDeadline(last); err != nil {
		s.errs = append(s.errs, err)
		return s
	}
	for at := range due {
		_, err := c.ask(r)
		now := time.Now()
		s.latencies = append(s.latencies, now.Sub(at))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.unanswered++
			return s
		case err != nil:
			s.errs = append(s.errs, err)
			return s
		case now.Before(end):
			s.inTime++
		}
	}
	return s
}

func (s *sample) add(other sample) {
	s.latencies = append(s.latencies, other.latencies...)
	s.inTime += other.inTime
	s.unanswered += other.unanswered
	s.errs = append(s.errs, other.errs...)
}

func (s *sample) sort() { slices.Sort(s.latencies) }

func (s *sample) err() error { return errors.Join(s.errs...) }
