package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
)

// debugging waits for the line that says where a program listens for debugging, and
// returns that as a URL.
func (p *program) debugging(t *testing.T) string {
	t.Helper()
	line := regexp.MustCompile(`"msg":"listening for debugging",.*"address":"(127\.0\.0\.1:[1-9][0-9]*)"`)
	var found []string
	eventually(t, func() bool {
		found = line.FindStringSubmatch(p.stdout.String())
		return found != nil
	})
	return "http://" + found[1]
}

func TestDebuggingIsOffByDefault(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t, newDependencies(t).environment()...).listening(t)
	p.ready(t)
	is.True(!strings.Contains(p.stdout.String(), "debugging"))
}

func TestDebuggingHasAListenerOfItsOwn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := newDependencies(t)
	p := start(t, append(d.environment(), "COFFEEBUDDY_DEBUG_ADDR=localhost:0", "COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#key")...).listening(t)
	debug := p.debugging(t)

	code, text := get(t, debug+"/debug/settings")
	is.Equal(code, 200)
	var shown struct{ Settings map[string]string }
	is.NoErr(json.Unmarshal([]byte(text), &shown))
	is.Equal(shown.Settings["VAULT_ADDR"], d.vault.URL)
	is.Equal(shown.Settings["VAULT_TOKEN"], "[redacted]")
	is.True(!strings.Contains(text, "canary"))

	for _, profile := range []string{"profile?seconds=0.1", "heap", "goroutine"} {
		code, body := get(t, debug+"/debug/pprof/"+profile)
		is.Equal(code, 200)
		unzipped, err := gzip.NewReader(strings.NewReader(body))
		is.NoErr(err)
		content, err := io.ReadAll(unzipped)
		is.NoErr(err)
		is.True(bytes.Contains(content, []byte("coffeebuddy")) || strings.HasPrefix(profile, "profile")) // the functions' names are in it
	}

	// Neither port has what the other has, and the metrics count the public one's alone.
	for _, path := range []string{"/debug/settings", "/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
		code, _ = get(t, p.url+path)
		is.Equal(code, 404)
	}
	for _, path := range []string{"/health/live", "/metrics", "/"} {
		code, _ = get(t, debug+path)
		is.Equal(code, 404)
	}
	_, metrics := get(t, p.url+"/metrics")
	is.True(strings.Contains(metrics, `coffeebuddy_http_requests_total{code="404",method="GET",route="unmatched"} 5`+"\n"))

	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 0)
	is.True(!strings.Contains(p.stdout.String(), "/debug/")) // nor is it logged
}

func TestDebuggingHoldsUpNoShutdown(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t, "COFFEEBUDDY_DEBUG_ADDR=127.0.0.1:0").listening(t)
	debug := p.debugging(t)
	cut := make(chan error, 2)
	for _, what := range []string{"profile", "trace"} {
		go func() {
			resp, err := http.Get(debug + "/debug/pprof/" + what + "?seconds=600")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			cut <- err
		}()
	}
	eventually(t, func() bool {
		_, goroutines := get(t, debug+"/debug/pprof/goroutine?debug=2")
		return strings.Count(goroutines, "handleRecording.func") == 2 && strings.Contains(goroutines, "runtime/pprof.profileWriter")
	})
	signalled := time.Now()
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 0)
	is.True(time.Since(signalled) < 5*time.Second) // of 20 that it may take
	for range 2 {
		is.True(<-cut != nil) // it was cut, and says so
	}
	is.Equal(p.stderr.String(), "")
}

// TestDebuggingStaysOpenWhileItDrains: what holds up a drain is worth a look.
func TestDebuggingStaysOpenWhileItDrains(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t, "COFFEEBUDDY_DEBUG_ADDR=127.0.0.1:0").listening(t)
	debug := p.debugging(t)
	conn := slowBody(t, p)
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	eventually(t, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	code, goroutines := get(t, debug+"/debug/pprof/goroutine?debug=2")
	is.Equal(code, 200)
	is.True(strings.Contains(goroutines, "handleEvent")) // which waits for the rest of its body
	_, err := io.WriteString(conn, "}")
	is.NoErr(err)
	answer := make([]byte, len("HTTP/1.1 200"))
	_, err = io.ReadFull(conn, answer)
	is.NoErr(err)
	is.Equal(string(answer), "HTTP/1.1 200") // what is in flight goes on
	is.Equal(p.exit(t), 0)
}

func TestTakenDebugAddress(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer listener.Close()
	p := start(t, "COFFEEBUDDY_DEBUG_ADDR="+listener.Addr().String())
	is.Equal(p.exit(t), 1)
	is.Equal(p.stderr.String(), "listen on COFFEEBUDDY_DEBUG_ADDR: address already in use\n")

	p = start(t, "COFFEEBUDDY_DEBUG_ADDR=0.0.0.0:6060")
	is.Equal(p.exit(t), 1)
	is.Equal(p.stderr.String(), "COFFEEBUDDY_DEBUG_ADDR: must be a loopback address and a port, such as 127.0.0.1:6060\n")
	is.Equal(p.stdout.String(), "")
}
