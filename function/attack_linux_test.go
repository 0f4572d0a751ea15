package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestAttacks is what a caller may do within the manifests' limits: the function is built as
// ko builds it, and runs under GOMEMLIMIT and a limit on its data, more than which ends
// it. (A cgroup would count the kernel's buffers, too.)
func TestAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the function without cgo, and takes a minute: make e2e runs it")
	}
	binary := built(t)
	escapes := strings.Repeat("\x01", 1<<20)
	structured := func(data string) string {
		body := `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","datacontenttype":"text/plain",` + data + `}`
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	plain := func(body string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	slack := func(path, body string) string {
		return fmt.Sprintf("POST /slack/%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Slack-Request-Timestamp: %d\r\n"+
			"X-Slack-Signature: v0=%064x\r\nContent-Length: %d\r\n\r\n%s", path, time.Now().Unix(), 1, len(body), body)
	}
	members := func(size int) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, `"%x":1,`, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	const mib = 1 << 20
	for _, attack := range []struct {
		name    string
		senders int
		request string
		times   int  // on each connection
		unread  bool // nobody reads the responses
		status  int  // of the first response on a connection, 0 for any
	}{
		{"text that is six times as long when it is escaped", 32, event(escapes), 4, false, 413},
		{"as much of it as is echoed", 32, event(escapes[:64<<10]), 20, false, 0},
		{"bytes that are echoed in base64", 32, event(strings.Repeat("\xff", 64<<10)), 20, false, 0},
		{"structured events with text full of escapes", 32, structured(`"data":"` + strings.Repeat(`\u0001`, mib/6-50) + `"`), 4, false, 413},
		{"structured events with data in base64", 32, structured(`"data_base64":"` + base64.StdEncoding.EncodeToString(make([]byte, mib/4*3-300)) + `"`), 4, false, 413},
		{"structured events of many members", 32, structured(members(mib - 300)), 4, false, 400},
		{"JSON of many members that looks like an event", 32, plain(`{"specversion":"1.0",` + members(mib-300) + `}`), 4, false, 413},
		{"JSON that is deep", 32, plain(`{"a":` + strings.Repeat(`{"a":`, 190_000) + "1" + strings.Repeat("}", 190_001)), 4, false, 0},
		{"bodies that stop a byte before their end", 300, strings.TrimSuffix(event(escapes), "\x01"), 1, false, 0},
		{"forms with a signature that nobody made", 32, slack("commands", "ssl_check=1&"+strings.Repeat("a&", mib/2-50)), 2, false, 0},
		{"payloads with a signature that nobody made", 32, slack("interactions", "payload="+strings.Repeat("a&", 2*mib-50)), 2, false, 0},
		{"answers of a megabyte in all that nobody reads", 60, event(escapes[:64<<10]), 5, true, 0},
		{"bodies of a megabyte whose answers nobody reads", 60, event(escapes), 5, true, 0},
		{"scrapes that nobody reads", 60, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1000, true, 0},
	} {
		t.Run(attack.name, func(t *testing.T) {
			is := is.New(t)
			p := startLimited(t, binary)
			is.True(p.rounds(t, 0.5, func() {
				var senders sync.WaitGroup
				for i := range attack.senders {
					senders.Go(func() {
						conn, err := p.dial(i)
						if err != nil {
							t.Error(err)
							return
						}
						defer conn.Close()
						sent := make(chan bool)
						go func() {
							defer close(sent)
							_, _ = io.WriteString(conn, strings.Repeat(attack.request, attack.times))
						}()
						if attack.unread {
							over := time.Now().Add(3 * time.Second)
							_ = conn.SetDeadline(over)
							<-time.After(time.Until(over))
							return
						}
						_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
						code := responses(conn, attack.times)
						if attack.status != 0 && code != 0 && code != attack.status && code != http.StatusServiceUnavailable {
							t.Errorf("%d", code)
						}
					})
				}
				senders.Wait()
			}))
			hwm := p.memory(t, "VmHWM")
			is.True(hwm < 160<<20)
			p.ends(t)
		})
	}
}

// built is the function as ko builds it.
func built(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "function")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // with cgo each thread has a stack of 8 MiB that counts as data
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the function: %v\n%s", err, out)
	}
	return binary
}

// responses reads a number of responses and returns the status of the first, 0 for none.
func responses(conn net.Conn, count int) (first int) {
	r := bufio.NewReader(conn)
	for range count {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return first
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if first == 0 {
			first = resp.StatusCode
		}
		if resp.Close {
			break
		}
	}
	return first
}

// startLimited starts the built function with the limits of the manifests.
func startLimited(t *testing.T, binary string) *program {
	t.Helper()
	p := newProgram(t, "/bin/sh", append(newDependencies(t).environment(), "COFFEEBUDDY_ENVIRONMENT=prod", "COFFEEBUDDY_ECHO=true",
		"COFFEEBUDDY_SLACK_SECRET=secret/slack#signing_secret", "COFFEEBUDDY_CHECK_TTL=1s", "COFFEEBUDDY_CHECK_TIMEOUT=10s", "COFFEEBUDDY_LOG_LEVEL=info", "GOMEMLIMIT=224MiB")...)
	p.Args = []string{"sh", "-c", `ulimit -d 262144 && exec "$0"`, binary}
	p.Stderr = &p.stderr
	p.begin(t)
	p.listening(t).ready(t)
	return p
}

func (p *program) dial(i int) (net.Conn, error) { return dial(strings.TrimPrefix(p.url, "http://"), i) }

// dial connects from one of several addresses of this machine, since each has some 28,000 ports.
func dial(address string, i int) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}, Timeout: 10 * time.Second}
	return dialer.Dial("tcp", address)
}

// rounds attacks until a share of the probes took less than 100 ms each, and reports whether that happened
// within three rounds. A round in which the probes of a bare server were late too does not count, since the
// machine is busy. There are ten rounds at most: it could be the function that keeps the machine busy.
func (p *program) rounds(t *testing.T, share float64, attack func()) bool {
	t.Helper()
	bare := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer bare.Close()
	for counted, round := 0, 0; counted < 3 && round < 10; round++ {
		var took []time.Duration
		bareTook := probed(t, bare.URL, func() { took = probed(t, p.url, attack) })
		late, bareLate := quantile(took, share), quantile(bareTook, share)
		t.Logf("%d probes took %s in the median, %s in %.0f %%, %s at most; at most %d MiB were resident; %s in %.0f %% of a bare server's",
			len(took), took[len(took)/2].Round(time.Millisecond), late.Round(time.Millisecond), 100*share,
			took[len(took)-1].Round(time.Millisecond), p.memory(t, "VmHWM")>>20, bareLate.Round(time.Millisecond), 100*share)
		if late < 100*time.Millisecond {
			return true
		}
		if bareLate < 100*time.Millisecond {
			counted++
		}
	}
	return false
}

// quantile sorts durations, and returns the one that a share of them does not exceed.
func quantile(took []time.Duration, share float64) time.Duration {
	slices.Sort(took)
	return took[int(float64(len(took)-1)*share)]
}

// memory returns a line of the process's status, in bytes.
func (p *program) memory(t testing.TB, line string) (bytes int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatalf("the process has ended: %.2000s", p.stderr.String())
	}
	_, rest, _ := strings.Cut(string(status), line+":")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatalf("the process has ended: %s", p.stderr.String())
	}
	return bytes << 10
}

// ends checks that the function is well and stops as it should.
func (p *program) ends(t *testing.T) {
	t.Helper()
	is := is.New(t)
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 0)
	is.Equal(p.stderr.String(), "")
}
