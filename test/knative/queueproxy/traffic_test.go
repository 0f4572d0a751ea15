package queueproxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/matryer/is"
	netheader "knative.dev/networking/pkg/http/header"
)

const (
	megabyte = 1 << 20  // the largest body of an event
	echoed   = 64 << 10 // the largest that the tests' receiver answers
	kept     = "kept-by-everyone"
)

// TestTraffic holds what comes back through queue-proxy to what the function says itself, and to the contract.
func TestTraffic(t *testing.T) {
	t.Parallel()
	pod := startPod(t, startPlatform(t), podOptions{})
	pod.becomesReady(t)
	structured := map[string]string{"Content-Type": "application/cloudevents+json"}
	unknown := eventHeader("1")
	unknown["Ce-Type"] = "no.such.type"
	slack := eventHeader("1")
	slack["Ce-Type"] = "com.slack.command"
	anonymous := eventHeader("1")
	delete(anonymous, "Ce-Id")
	object := func(size int) string { return `{"a":"` + strings.Repeat("a", size-len(`{"a":""}`)) + `"}` }
	for _, test := range []struct {
		name string
		request
		status int
		body   string // part of it
	}{
		{"JSON", request{http.MethodPost, "/", jsonHeader(), `{"n":1}`}, 200, `"message":{"n":1}`},
		{"event", request{http.MethodPost, "/", eventHeader("1"), `{"n":1}`}, 200, `"message":{"n":1}`},
		{"structured event", request{http.MethodPost, "/", structured, `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":{"n":1}}`}, 200, `"n":1`},
		{"JSON as large as is echoed", request{http.MethodPost, "/", jsonHeader(), object(echoed)}, 200, "aaa"},
		{"JSON a byte larger than is echoed", request{http.MethodPost, "/", jsonHeader(), object(echoed + 1)}, 413, `"error":"malformed"`},
		{"event as large as it may be, for nobody", request{http.MethodPost, "/", unknown, object(megabyte)}, 422, `"error"`},
		{"liveness", request{path: "/health/live"}, 200, "live"},
		{"liveness by HEAD", request{method: http.MethodHead, path: "/health/live"}, 200, ""},
		{"no JSON", request{http.MethodPost, "/", jsonHeader(), `{`}, 400, `"error":"malformed"`},
		{"event without id", request{http.MethodPost, "/", anonymous, `{}`}, 400, `"attribute":"id"`},
		{"unknown path", request{path: "/nothing"}, 404, ""},
		{"unclean path", request{path: "//health/live"}, 404, ""},
		{"path with dots", request{path: "/health/../health/live"}, 404, ""},
		{"GET of events", request{path: "/"}, 405, ""},
		{"DELETE of health", request{method: http.MethodDelete, path: "/health/ready"}, 405, ""},
		{"JSON a byte too large", request{http.MethodPost, "/", jsonHeader(), object(megabyte + 1)}, 413, `"error":"malformed"`},
		{"JSON far too large", request{http.MethodPost, "/", jsonHeader(), object(16 * megabyte)}, 413, `"error":"malformed"`},
		{"form", request{http.MethodPost, "/", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "a=b"}, 415, `"error"`},
		{"event for nobody", request{http.MethodPost, "/", unknown, `{}`}, 422, `"error"`},
		{"event in Slack's name", request{http.MethodPost, "/", slack, `{}`}, 422, `"error"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			header := map[string]string{"X-Request-Id": kept}
			maps.Copy(header, test.header)
			test.header = header
			want, err := send(t.Context(), pod.client, pod.direct(), test.request)
			is.NoErr(err)
			is.Equal(want.status, test.status)
			is.True(strings.Contains(want.body, test.body)) // body
			is.Equal(want.header.Get("X-Request-Id"), kept)
			// Several times, because an answer that overtakes its request's body can get lost on some connections.
			cut := 0
			for range 10 {
				got, err := pod.send(t.Context(), test.request)
				for ; errors.Is(err, io.ErrUnexpectedEOF) && len(want.body) > proxied && cut < 5; cut++ {
					got, err = pod.send(t.Context(), test.request)
				}
				is.NoErr(err)
				is.Equal(got.status, want.status)                   // through queue-proxy
				is.Equal(got.body, want.body)                       // through queue-proxy
				is.Equal(lasting(got.header), lasting(want.header)) // through queue-proxy
			}
		})
	}
}

// proxied is how much of a response, in bytes, Go's ReverseProxy holds back until all of it is there. One that is larger may overtake the
// end of its request in queue-proxy, which then cuts it off: of 20,000 echoes of 64 KiB by a bare net/http behind a bare ReverseProxy, 9.
const proxied = 2 << 10

// lasting are the headers that are the same for the same request, but for those of the connection, which each hop has its own of.
func lasting(header http.Header) http.Header {
	header = header.Clone()
	for _, name := range []string{"Date", "Connection", "Ce-Id", "Ce-Time"} {
		header.Del(name)
	}
	return header
}

// TestForwardedHeaders shows what the function gets from queue-proxy, and that it is none the worse for it.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	pod := startPod(t, startPlatform(t), podOptions{recorded: true})
	pod.becomesReady(t)
	own := address(hostAddress) // this test's, as queue-proxy sees it
	for i, test := range []struct {
		name   string
		header map[string]string
		want   map[string]string // at the function; Host is the request's
	}{
		{"none", nil, map[string]string{"X-Forwarded-For": own, "Forwarded": ""}},
		{"one hop", map[string]string{"X-Forwarded-For": "203.0.113.7"}, map[string]string{
			"X-Forwarded-For": "203.0.113.7, " + own, "Forwarded": "for=203.0.113.7",
		}},
		{"all of a gateway", map[string]string{
			"X-Forwarded-For": "203.0.113.7, 198.51.100.9", "X-Forwarded-Host": "coffee.example.com", "X-Forwarded-Proto": "https",
		}, map[string]string{
			"X-Forwarded-For": "203.0.113.7, 198.51.100.9, " + own,
			"Forwarded":       "for=203.0.113.7;host=coffee.example.com;proto=https, for=198.51.100.9",
		}},
		{"of the original host", map[string]string{netheader.OriginalHostKey: "coffee.example.com"}, map[string]string{
			"Host": "coffee.example.com", netheader.OriginalHostKey: "",
		}},
		{"of the activator", map[string]string{
			netheader.ProxyKey: "activator", "Knative-Serving-Revision": "coffeebuddy-00001", "Knative-Serving-Namespace": "coffeebuddy",
		}, map[string]string{"Knative-Serving-Revision": "", "Knative-Serving-Namespace": ""}},
		{"nonsense", map[string]string{"X-Forwarded-For": strings.Repeat("☕,", 500), "Forwarded": `for="`}, map[string]string{"Forwarded": `for="`}},
		{"a trace", map[string]string{"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			path := "/health/live?" + strconv.Itoa(i)
			header := map[string]string{"X-Request-Id": "row-" + strconv.Itoa(i)}
			maps.Copy(header, test.header)
			a, err := pod.send(t.Context(), request{path: path, header: header})
			is.NoErr(err)
			is.Equal(a.status, http.StatusOK)
			is.Equal(a.body, `{"status":"live"}`+"\n")
			got := pod.recorder.with(t, "row-"+strconv.Itoa(i))
			for name, want := range test.want {
				is.Equal(got.header.Get(name), want) // name, at the function
			}
		})
	}
}

// with returns the note of the request with this id, which may come after the answer.
func (r *recorder) with(t *testing.T, id string) (found note) {
	t.Helper()
	eventually(t, soon, func() bool {
		notes := r.of("/health/live")
		i := slices.IndexFunc(notes, func(n note) bool { return n.header.Get("X-Request-Id") == id })
		if i >= 0 {
			found = notes[i]
		}
		return i >= 0
	})
	return found
}

// TestProbeHeadersOfStrangers shows who answers when somebody pretends to be a part of Knative: no health of the pod comes out of it that
// /health/ready would not tell, and nothing breaks.
func TestProbeHeadersOfStrangers(t *testing.T) {
	t.Parallel()
	pod := startPod(t, startPlatform(t), podOptions{})
	pod.becomesReady(t)
	const echo = `"message":{"n":1}`
	for _, test := range []struct {
		name   string
		header map[string]string
		status int
		body   string // part of it
	}{
		{"queue", map[string]string{netheader.ProbeKey: "queue"}, 200, echo},
		{"activator", map[string]string{netheader.ProbeKey: "activator"}, 200, echo},
		{"probe without hash", map[string]string{netheader.ProbeKey: "probe"}, 400, "K-Network-Hash"},
		{"probe with hash", map[string]string{netheader.ProbeKey: "probe", netheader.HashKey: "1"}, 200, ""},
		{"kubelet's agent alone", map[string]string{"User-Agent": "kube-probe/1.34"}, 400, "unexpected probe header value"},
		{"kubelet's other header", map[string]string{netheader.KubeletProbeKey: "1"}, 200, echo},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			header := jsonHeader()
			maps.Copy(header, test.header)
			a, err := pod.send(t.Context(), request{http.MethodPost, "/", header, `{"n":1}`})
			is.NoErr(err)
			is.Equal(a.status, test.status)
			is.True(strings.Contains(a.body, test.body)) // body
		})
	}
}

// TestScrape shows the metrics to Prometheus, at the address and path that the manifest's annotations name.
func TestScrape(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	pod := startPod(t, startPlatform(t), podOptions{})
	pod.becomesReady(t)
	for range 3 {
		a, err := pod.send(t.Context(), request{http.MethodPost, "/", eventHeader("1"), `{}`})
		is.NoErr(err)
		is.Equal(a.status, http.StatusOK)
	}
	series := pod.metrics(t)
	is.Equal(series["coffeebuddy_ready"], 1.0)
	is.Equal(series[`coffeebuddy_dependency_up{dependency="vault"}`], 1.0)
	is.Equal(series[`coffeebuddy_events_total{outcome="accepted"}`], 3.0)
	is.Equal(series[`coffeebuddy_http_requests_total{code="200",method="POST",route="/"}`], 3.0)
	is.True(series[`coffeebuddy_start_seconds{until="ready"}`] > 0)
}
