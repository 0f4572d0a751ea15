package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// A request is fixed bytes, and the status that its answer must have.
type request struct {
	bytes  string
	status int
}

func get(path string, status int) request {
	return request{"GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", status}
}

// A conn is a connection that asks one request after the other. It reads and writes bytes, so that little but the server is measured.
type conn struct {
	net.Conn
	buffer []byte
	moved  time.Time // when its deadline was
}

// hangs is how long a forgetful server's answer is waited for in a closed loop.
const hangs = 15 * time.Millisecond

// within sets the deadline so that it is between a time and two thirds of it away.
func (c *conn) within(now time.Time, d time.Duration) error {
	if now.Sub(c.moved) < d/3 {
		return nil
	}
	c.moved = now
	return c.SetDeadline(now.Add(d))
}

func dial(address string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, buffer: make([]byte, 8<<10)}, nil
}

// ask sends a request and returns the body of its answer, which is good until the next one.
func (c *conn) ask(r request) (body []byte, err error) {
	if _, err := c.Write([]byte(r.bytes)); err != nil {
		return nil, err
	}
	read := 0
	for {
		if read == len(c.buffer) {
			c.buffer = append(c.buffer, make([]byte, len(c.buffer))...)
		}
		n, err := c.Read(c.buffer[read:])
		if err != nil {
			return nil, err
		}
		read += n
		head, body, ok := bytes.Cut(c.buffer[:read], []byte("\r\n\r\n"))
		if !ok {
			continue
		}
		status, length, err := parse(head)
		if err != nil {
			return nil, err
		}
		if length >= 0 && len(body) < length || length < 0 && !bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n")) {
			continue
		}
		if status != r.status {
			return nil, fmt.Errorf("status %d, not %d: %.200s", status, r.status, body)
		}
		return body, nil
	}
}

// parse reads of an answer's head its status and the length of its body, -1 for one that is chunked.
func parse(head []byte) (status, length int, err error) {
	if len(head) < len("HTTP/1.1 200") {
		return 0, 0, errors.New("not an answer of HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, 0, fmt.Errorf("read the status: %w", err)
	}
	if status == 204 {
		return status, 0, nil
	}
	_, after, ok := bytes.Cut(head, []byte("ontent-Length: ")) // as Go writes it
	if !ok {
		_, after, ok = bytes.Cut(head, []byte("ontent-length: ")) // as uvicorn does
	}
	if !ok {
		return status, -1, nil
	}
	for _, c := range after {
		if c < '0' || c > '9' {
			break
		}
		length = length*10 + int(c-'0')
	}
	return status, length, nil
}

// askOnce asks on a connection of its own.
func askOnce(address string, r request) (body []byte, err error) {
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	return c.ask(r)
}

// A count is what came of a closed loop.
type count struct {
	answered   int // in time
	unanswered int // when patience ended
}

// closedLoop asks a server over so many connections for a time, each again as soon as it was answered.
func closedLoop(s *server, r request, conns int, span time.Duration) (total count, err error) {
	var (
		clients sync.WaitGroup
		mu      sync.Mutex
		errs    []error
	)
	end := time.Now().Add(span)
	for range conns {
		clients.Go(func() {
			c, err := askUntil(s, r, end)
			mu.Lock()
			defer mu.Unlock()
			total.answered += c.answered
			total.unanswered += c.unanswered
			errs = append(errs, err)
		})
	}
	clients.Wait()
	return total, errors.Join(errs...)
}

func askUntil(s *server, r request, end time.Time) (total count, err error) {
	c, err := dial(s.address)
	if err != nil {
		return total, err
	}
	defer func() { c.Close() }()
	if err := c.SetDeadline(end.Add(s.patience)); err != nil {
		return total, err
	}
	for now := time.Now(); now.Before(end); now = time.Now() {
		if s.forgetful { // a deadline is moved rarely, so that it costs nothing
			if err := c.within(now, hangs); err != nil {
				return total, err
			}
		}
		_, err := c.ask(r)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			total.unanswered++
			if !s.forgetful {
				return total, nil
			}
			c.Close()
			if c, err = dial(s.address); err != nil {
				return total, err
			}
		case err != nil:
			return total, err
		case time.Now().Before(end):
			total.answered++
		}
	}
	return total, nil
}

// until sleeps until a time, or until ctx ends.
func until(ctx context.Context, t time.Time) {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
