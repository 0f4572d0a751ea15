package handler_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// TestRefusalsAreLoggedOnceInTenSeconds, and then counted: anybody can cause them.
func TestRefusalsAreLoggedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		for range 1000 {
			f.ask("GET", "/nowhere", "")
		}
		is.Equal(len(f.logs.Lines(t)), 1)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		lines := f.logs.Lines(t)
		is.Equal(len(lines), 2)
		is.Equal(lines[1]["msg"], "requests refused")
		is.Equal(lines[1]["count"], 999.0)
	})
}

// TestRefusalsAreCountedAtTheEnd, once: the process is gone before the ten seconds are over.
func TestRefusalsAreCountedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		for range 1000 {
			f.ask("GET", "/nowhere", "")
		}
		f.ask("GET", "/", "") // a kind with no more than its first
		is.NoErr(f.Wait(t.Context()))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		lines := f.logs.Lines(t)
		is.Equal(len(lines), 3)
		is.Equal(lines[2]["msg"], "requests refused")
		is.Equal(lines[2]["count"], 999.0)
		is.Equal(lines[2]["time"], lines[1]["time"])
	})
}
