package logging_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/logging"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A reader takes lines when it is let.
type reader struct {
	let   chan struct{} // nil: at once
	mu    sync.Mutex
	lines bytes.Buffer
}

func (r *reader) Write(lines []byte) (int, error) {
	if r.let != nil {
		<-r.let
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.Write(lines)
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

func TestLinesLeaveInTheirOrder(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := new(reader)
	w := logging.NewWriter(to)
	is.NoErr(w.Flush(t.Context())) // of nothing
	var want strings.Builder
	line := make([]byte, 0, 64)
	for i := range 10_000 {
		line = fmt.Appendf(line[:0], "line %d\n", i) // which is used again
		want.Write(line)
		_, err := w.Write(line)
		is.NoErr(err)
		if i%1000 == 0 {
			is.NoErr(w.Flush(t.Context()))
			is.Equal(to.String(), want.String())
		}
	}
	is.NoErr(w.Flush(t.Context()))
	is.Equal(to.String(), want.String())
	is.Equal(testutil.ToFloat64(w.Dropped()), 0.0)
}

// TestLineOfAnIdleFunctionIsOutAtOnce: nothing waits for more.
func TestLineOfAnIdleFunctionIsOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		to := new(reader)
		w := logging.NewWriter(to)
		began := time.Now()
		_, _ = w.Write([]byte("line\n"))
		synctest.Wait()
		is.Equal(to.String(), "line\n")
		is.Equal(time.Since(began), time.Duration(0))
	})
}

// TestNobodyReads: what does not fit is dropped and counted, and nothing waits. What fits leaves
// once somebody reads again.
func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		to := &reader{let: make(chan struct{})}
		w := logging.NewWriter(to)
		line := []byte(strings.Repeat("x", 1023) + "\n")
		_, _ = w.Write([]byte("first\n"))
		synctest.Wait() // it is being written
		for range 1024 + 100 {
			n, err := w.Write(line)
			is.NoErr(err)
			is.Equal(n, len(line))
		}
		is.Equal(testutil.ToFloat64(w.Dropped()), 100.0)
		_, _ = w.Write([]byte("two\nlines\n"))
		is.Equal(testutil.ToFloat64(w.Dropped()), 102.0)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		is.Equal(w.Flush(ctx), context.DeadlineExceeded)
		is.Equal(time.Since(began), time.Second)

		close(to.let)
		is.NoErr(w.Flush(t.Context()))
		is.Equal(len(to.String()), len("first\n")+1024*1024)
		_, _ = w.Write([]byte("last\n"))
		is.NoErr(w.Flush(t.Context()))
		is.True(strings.HasSuffix(to.String(), "x\nlast\n"))
	})
}

func TestManyWrite(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := new(reader)
	w := logging.NewWriter(to)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				_, _ = w.Write([]byte("0123456789\n"))
			}
		})
	}
	all.Wait()
	is.NoErr(w.Flush(t.Context()))
	is.Equal(strings.ReplaceAll(to.String(), "0123456789\n", ""), "") // none within another
	is.Equal(len(to.String()), 8*1000*len("0123456789\n"))
}

// BenchmarkPipe writes a line to a pipe that somebody reads.
func BenchmarkPipe(b *testing.B) {
	r, pipe, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer pipe.Close()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	w := logging.NewWriter(pipe)
	line := []byte(strings.Repeat("x", 255) + "\n")
	for name, to := range map[string]io.Writer{"direct": pipe, "buffered": w} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = to.Write(line)
			}
		})
	}
	_ = w.Flush(b.Context())
}
