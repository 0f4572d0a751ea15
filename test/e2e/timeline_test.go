package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
)

// A timeline is what was true of one dependency, and when.
type timeline struct {
	mu    sync.Mutex
	spans []span
}

// A span lasts until the next one begins.
type span struct {
	from time.Time
	what string   // for people
	says []string // what readiness may say of it: "ok", or reasons
}

// down is what a gauge says of a dependency that is not "ok": it has no reasons.
const down = "down"

// allows reports whether readiness may say what.
func (s span) allows(what string) bool {
	if what == down {
		return slices.ContainsFunc(s.says, func(reason string) bool { return reason != "ok" })
	}
	return slices.Contains(s.says, what)
}

// now begins a span.
func (l *timeline) now(what string, says ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans = append(l.spans, span{from: time.Now(), what: what, says: says})
}

// between returns the spans that overlap a time.
func (l *timeline) between(from, to time.Time) []span {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := 0
	for i, s := range l.spans {
		if !s.from.After(from) {
			first = i
		}
		if s.from.After(to) {
			return l.spans[first:i]
		}
	}
	return l.spans[first:]
}

// A said is what one answer said of one dependency.
type said struct {
	asked, answered time.Time
	what            string
}

// A judgement is what comparing an answer with the truth gave.
type judgement struct {
	wrong   error         // nil: the rules allow for it
	certain bool          // nothing had changed within reach: they allow for one thing only
	late    time.Duration // how long ago what it says had ceased to be true
}

// judge compares an answer with what was true. Reach is how far back the rules let an answer look: one TTL, one check, a probe's
// patience, and some slack for a busy machine.
func (l *timeline) judge(s said, reach time.Duration) judgement {
	spans := l.between(s.asked.Add(-reach), s.answered)
	j := judgement{certain: len(spans) == 1 && len(spans[0].says) == 1}
	truth := ""
	for _, span := range slices.Backward(spans) {
		if span.allows(s.what) {
			return j
		}
		j.late = max(0, s.asked.Sub(span.from))
		truth += fmt.Sprintf(", %s since %s", span.what, s.asked.Sub(span.from).Round(time.Millisecond))
	}
	j.late = 0
	j.wrong = fmt.Errorf("%q%s; answered in %s", s.what, truth, s.answered.Sub(s.asked).Round(time.Millisecond))
	return j
}

func TestTimelineTellsWrongAnswersFromLateOnes(t *testing.T) {
	t.Parallel()
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	l := timeline{spans: []span{
		{at(0), "healthy", []string{"ok"}},
		{at(10_000), "being sealed", []string{"ok", "sealed"}},
		{at(10_100), "sealed", []string{"sealed"}},
		{at(20_000), "healthy", []string{"ok"}},
	}}
	for _, test := range []struct {
		asked, answered int
		what            string
		wrong, certain  bool
		late            int
	}{
		{asked: 5_000, answered: 5_010, what: "ok", certain: true},
		{asked: 5_000, answered: 5_010, what: "timeout", wrong: true, certain: true},
		{asked: 10_050, answered: 10_060, what: "ok"},
		{asked: 10_050, answered: 10_060, what: "sealed"},
		{asked: 10_050, answered: 10_060, what: "refused", wrong: true},
		{asked: 10_900, answered: 10_910, what: "ok", late: 800},
		{asked: 11_200, answered: 11_210, what: "ok", wrong: true, certain: true},
		{asked: 11_200, answered: 11_210, what: "sealed", certain: true},
		{asked: 19_990, answered: 20_010, what: "ok"}, // it came back before the answer
		{asked: 20_500, answered: 20_510, what: "sealed", late: 500},
		{asked: 21_100, answered: 21_110, what: "sealed", wrong: true, certain: true},
	} {
		is := is.New(t)
		j := l.judge(said{at(test.asked), at(test.answered), test.what}, time.Second)
		is.Equal(j.wrong != nil, test.wrong)                        // wrong
		is.Equal(j.certain, test.certain)                           // certain
		is.Equal(j.late, time.Duration(test.late)*time.Millisecond) // late
	}
}
