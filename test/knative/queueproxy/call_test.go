package queueproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A call is a request of plain JSON, the body of which comes as slowly as a test likes. An http.Client would wait for it in places
// where no timeout counts.
type call struct {
	connection net.Conn
	began      time.Time
}

// The two parts of a call's body.
const (
	firstPart = `{"slow":`
	lastPart  = `true}`
)

// startCall sends the head of a request and the first part of its body.
func startCall(t *testing.T, server string) *call {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	c := &call{connection: connection, began: time.Now()}
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c.write(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: coffeebuddy\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(firstPart+lastPart), firstPart))
	return c
}

func (c *call) write(t *testing.T, part string) {
	t.Helper()
	if _, err := io.WriteString(c.connection, part); err != nil {
		t.Fatal(err)
	}
}

// silent fails the test if anything comes before the call is so old.
func (c *call) silent(t *testing.T, age time.Duration) {
	t.Helper()
	if err := c.connection.SetReadDeadline(c.began.Add(age)); err != nil {
		t.Fatal(err)
	}
	n, err := c.connection.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); n > 0 || !ok || !timeout.Timeout() {
		t.Fatalf("%d bytes and %v came after %s", n, err, rounded(time.Since(c.began)))
	}
	if err := c.connection.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
}

// answer waits for it.
func (c *call) answer() (answer, error) {
	response, err := http.ReadResponse(bufio.NewReader(c.connection), nil)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), took: time.Since(c.began)}, err
}
