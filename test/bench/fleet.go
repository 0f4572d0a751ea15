package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A row is a request to one server, in the tables.
type row struct {
	what    string // the table's group
	server  *server
	request request
}

// conns is how many connections a row may have: the function answers four scrapes at a time.
func (r row) conns(most int) int {
	if r.what == metrics {
		return min(most, 4)
	}
	return most
}

// event returns an event of 100 bytes of JSON.
func event(mode, eventType string, status int) request {
	data := `"` + strings.Repeat("x", 98) + `"`
	header := "Ce-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /counter\r\nCe-Type: " + eventType + "\r\nContent-Type: application/json\r\n"
	if mode == "structured" {
		header = "Content-Type: application/cloudevents+json\r\n"
		data = `{"specversion":"1.0","id":"1","source":"/counter","type":"` + eventType + `","datacontenttype":"application/json","data":` + data + `}`
	}
	return request{fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", header, len(data), data), status}
}

// The groups of the tables.
const (
	live        = "`GET /health/live`"
	ready       = "`GET /health/ready`, all healthy"
	readyDead   = "`GET /health/ready`, Vault's port closed"
	readyHung   = "`GET /health/ready`, Vault hangs"
	metrics     = "`GET /metrics`"
	binaryEvent = "a binary event, nothing returned"
	binaryEcho  = "a binary event, echoed"
	structEvent = "a structured event, nothing returned"
	structEcho  = "a structured event, echoed"
)

// The names in the tables.
const (
	bareName     = "bare net/http"
	timeoutsName = "… with the function's timeouts"
	headersName  = "… and a health answer's headers"
	functionName = "**this function**"
	quietName    = "**this function**, no log line"
	stoppedName  = "**this function**, nobody reads its log"
	handlerName  = "**this project's handler**"
	healthName   = "alexliesenfeld/health"
	periodicName = "alexliesenfeld/health, periodic"
	sdkName      = "CloudEvents SDK"
	funcgoName   = "func-go"
	promhttpName = "promhttp alone"
	fastapiName  = "FastAPI"
	fastPlayed   = "FastAPI, played Vault and Ory"
)

// A fleet is the servers of the throughput and latency steps.
type fleet struct {
	bare, timeouts, headers, function, quiet, handler *server
	stopped                                           *server // of latency alone
	health, periodic, sdk, funcgo, promhttp           *server
	fastapi, fastapiPlayed                            *server // nil without Python
}

// launch starts the fleet on a real Vault and Hydra. It ends with ctx.
func (b *bench) launch(ctx context.Context) (*fleet, error) {
	instant, _, _, err := played(ctx)
	if err != nil {
		return nil, err
	}
	f := new(fleet)
	for _, each := range []struct {
		to      **server
		program program
		of      platform
	}{
		{&f.bare, b.goProgram(bareName, "bare"), b.healthy},
		{&f.timeouts, b.goProgram(timeoutsName, "bare", "BARE=timeouts"), b.healthy},
		{&f.headers, b.goProgram(headersName, "bare", "BARE=headers"), b.healthy},
		{&f.function, b.function(functionName), b.healthy},
		{&f.quiet, b.function(quietName, "COFFEEBUDDY_LOG_LEVEL=error"), b.healthy},
		{&f.handler, b.goProgram(handlerName, "receiver"), b.healthy},
		{&f.health, b.goProgram(healthName, "health"), b.healthy},
		{&f.periodic, b.goProgram(periodicName, "health", "PERIODIC=1"), b.healthy},
		{&f.sdk, b.goProgram(sdkName, "sdk"), b.healthy},
		{&f.funcgo, b.goProgram(funcgoName, "funcgo"), b.healthy},
		{&f.promhttp, b.goProgram(promhttpName, "promhttp"), b.healthy},
		{&f.fastapi, b.fastAPI(fastapiName), b.healthy},
		{&f.fastapiPlayed, b.fastAPI(fastPlayed), instant},
	} {
		if each.program.path == "" {
			continue // no Python
		}
		if *each.to, err = b.start(ctx, each.program, each.of); err != nil {
			return nil, err
		}
	}
	return f, f.warm(ctx)
}

// warm waits until those that have a readiness are ready.
func (f *fleet) warm(ctx context.Context) error {
	probe := get("/health/ready", 200)
	for _, s := range []*server{f.function, f.quiet, f.health, f.periodic, f.promhttp, f.fastapi, f.fastapiPlayed} {
		if s == nil {
			continue
		}
		if err := s.becomes(ctx, probe); err != nil {
			return err
		}
	}
	return nil
}

// prime gives the histograms that are scraped something to show.
func (f *fleet) prime() error {
	for _, s := range []*server{f.function, f.promhttp} {
		for _, r := range []request{get("/health/ready", 200), get("/health/live", 200), event("binary", "boson.fn", 200)} {
			if _, err := closedLoop(s, r, 8, 300*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows are what is measured of servers that are well.
func (f *fleet) rows() []row {
	const echo, order = "boson.fn", "coffee.ordered"
	all := []row{
		{live, f.bare, get("/health/live", 200)},
		{live, f.timeouts, get("/health/live", 200)},
		{live, f.headers, get("/health/live", 200)},
		{live, f.function, get("/health/live", 200)},
		{live, f.fastapi, get("/health/live", 200)},

		{ready, f.function, get("/health/ready", 200)},
		{ready, f.health, get("/health/ready", 200)},
		{ready, f.periodic, get("/health/ready", 200)},
		{ready, f.fastapi, get("/health/ready", 200)},
		{ready, f.fastapiPlayed, get("/health/ready", 200)},

		{metrics, f.function, get("/metrics", 200)},
		{metrics, f.promhttp, get("/metrics", 200)},
		{metrics, f.fastapi, get("/metrics", 200)},
	}
	for _, mode := range []struct{ name, nothing, echoed string }{
		{"binary", binaryEvent, binaryEcho},
		{"structured", structEvent, structEcho},
	} {
		all = append(all,
			row{mode.nothing, f.handler, event(mode.name, order, 204)},
			row{mode.nothing, f.sdk, event(mode.name, order, 200)},
			row{mode.nothing, f.funcgo, event(mode.name, order, 200)},
			row{mode.nothing, f.fastapi, event(mode.name, order, 204)},

			row{mode.echoed, f.function, event(mode.name, echo, 200)},
			row{mode.echoed, f.quiet, event(mode.name, echo, 200)},
			row{mode.echoed, f.sdk, event(mode.name, echo, 200)},
			row{mode.echoed, f.funcgo, event(mode.name, echo, 200)},
			row{mode.echoed, f.fastapi, event(mode.name, echo, 200)},
		)
	}
	there := all[:0]
	for _, r := range all {
		if r.server != nil {
			there = append(there, r)
		}
	}
	return there
}
