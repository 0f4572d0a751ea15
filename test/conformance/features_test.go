// Package conformance holds the handler to the examples of the CloudEvents project
// itself, and measures it beside the receiver of the CloudEvents SDK. The binding's
// single rules are a table beside the handler.
package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudevents/conformance/pkg/event"
	sender "github.com/cloudevents/conformance/pkg/http"
	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"
)

// echo registers a receiver that replies with what it gets.
func echo(eventTypes ...string) func(*events.Events) error {
	return func(h *events.Events) error {
		for _, eventType := range eventTypes {
			if err := h.On(eventType, func(_ context.Context, e ce.Event) (*ce.Event, error) { return &e, nil }); err != nil {
				return err
			}
		}
		return nil
	}
}

// example returns the path of a file of the examples' module.
func example(t *testing.T, path string) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudevents/conformance").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), path)
}

// A scenario is an HTTP request and what it is as an event.
type scenario struct {
	name, request string
	attributes    map[string]string
	data          string
}

// TestFeatures writes each request of the feature file to a socket as it stands there,
// and compares the event that comes back with the one that the file describes.
func TestFeatures(t *testing.T) {
	t.Parallel()
	scenarios := read(t, example(t, "features/http-protocol-binding.feature"))
	is.New(t).Equal(len(scenarios), 4) // all that the file has
	server := httptest.NewServer(handlertest.New(t, echo("com.example.someevent")))
	defer server.Close()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			is := is.New(t)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			is.NoErr(err)
			defer conn.Close()
			// Events come in at /, not at the example's path.
			_, err = io.WriteString(conn, strings.Replace(s.request, "/someresource", "/", 1))
			is.NoErr(err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			is.NoErr(err)
			is.Equal(resp.StatusCode, 200)
			for name, want := range s.attributes {
				field := "Ce-" + name
				if name == "datacontenttype" {
					field = "Content-Type"
				}
				is.Equal(resp.Header.Get(field), want) // the attribute
			}
			var got, want any
			is.NoErr(json.NewDecoder(resp.Body).Decode(&got))
			is.NoErr(json.Unmarshal([]byte(s.data), &want))
			is.Equal(got, want)
		})
	}
}

// read reads the scenario outlines of a feature file, once for each of their examples.
func read(t *testing.T, path string) []scenario {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []scenario
	outlines := strings.Split(string(file), "Scenario Outline: ")
	for _, outline := range outlines[1:] {
		docs := strings.Split(outline, `"""`) // the request and the data are between them
		request := dedent(docs[1])
		table, examples, _ := strings.Cut(docs[2]+docs[4], "Examples:")
		attributes := rows(table)
		for contentType := range rows(examples) {
			if contentType == "contentType" {
				continue // the column's name
			}
			fill := strings.NewReplacer("<contentType>", contentType)
			s := scenario{
				name:       fill.Replace(strings.TrimSpace(strings.SplitN(outline, "\n", 2)[0])),
				attributes: make(map[string]string),
				data:       docs[3],
			}
			for name, value := range attributes {
				if name != "key" {
					s.attributes[name] = fill.Replace(value)
				}
			}
			head, body, _ := strings.Cut(fill.Replace(request), "\n\n")
			s.request = strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body
			all = append(all, s)
		}
	}
	return all
}

// rows returns the rows of a table: its first column and its last one.
func rows(table string) map[string]string {
	rows := make(map[string]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) >= 3 {
			rows[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[len(cells)-2])
		}
	}
	return rows
}

// dedent takes off what the first line is indented by, and the line feeds around.
func dedent(text string) string {
	text = strings.TrimRight(strings.TrimPrefix(text, "\n"), " \n")
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return strings.TrimPrefix(strings.ReplaceAll(text, "\n"+indent, "\n"), indent)
}

// TestYAML sends each event of the project's YAML files in both modes, as its own
// sender does, and compares what comes back. Those of version 0.3 are refused.
func TestYAML(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := handlertest.New(t, echo("com.example.someevent", "io.cloudevents.minimum"))
	for _, file := range []string{"yaml/v1.yaml", "yaml/v1.0/v1_minimum.yaml", "yaml/v03.yaml", "yaml/v0.3/v03_minimum.yaml"} {
		examples, err := event.FromYaml(example(t, file), false)
		is.NoErr(err)
		is.True(len(examples) > 0)
		for i, e := range examples {
			for _, mode := range []string{event.BinaryMode, event.StructuredMode} {
				e.Mode = mode
				t.Run(fmt.Sprint(file, " ", i, " ", mode), func(t *testing.T) { sendYAML(t, f, e) })
			}
		}
	}
}

func sendYAML(t *testing.T, f http.Handler, e event.Event) {
	is := is.New(t)
	if e.Mode == event.StructuredMode && !json.Valid([]byte(e.Data)) {
		t.Skip("its sender cannot write data that is not JSON in structured mode")
	}
	r, err := sender.EventToRequest("/", e)
	is.NoErr(err)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	if e.Attributes.SpecVersion != "1.0" {
		is.Equal(w.Code, 400)
		is.Equal(w.Body.String(), `{"error":"malformed","attribute":"specversion"}`+"\n")
		return
	}
	is.Equal(w.Code, 200)
	for _, name := range []string{"specversion", "type", "time", "id", "source", "subject", "dataschema"} {
		if want := e.Get(name); want != "" || name != "time" { // a reply without one is given it
			is.Equal(w.Header().Get("Ce-"+name), want)
		}
	}
	is.Equal(w.Header().Get("Content-Type"), e.Attributes.DataContentType)
	for name, value := range e.Attributes.Extensions {
		got, err := url.PathUnescape(w.Header().Get("Ce-" + name))
		is.NoErr(err)
		is.Equal(got, strings.TrimSpace(value)) // which its sender sends without the space around
	}
	is.Equal(strings.TrimSpace(w.Body.String()), strings.TrimSpace(e.Data))
}
