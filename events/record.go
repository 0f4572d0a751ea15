package events

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// recordVersion is the first byte of every record. A record of another version is an error,
// so that a format can change while pods of two releases share a ledger.
const recordVersion = 1

// errRecord says that a record is not one of this version.
var errRecord = errors.New("read a record: it was written by another version, or is damaged")

// The bits of a record's second byte.
const (
	hasReply  = 1 << iota
	hasBase64 // the data were written as base64 in JSON, and are to be again
)

// AppendEvent appends a valid event to some bytes, so that [ReadEvent] returns one that is
// sent with the same bytes. It holds the event's data as they are.
func AppendEvent(to []byte, e event.Event) []byte {
	var flags byte
	if e.DataBase64 {
		flags |= hasBase64
	}
	to = append(to, recordVersion, flags)
	for _, a := range attributes(e) {
		to = appendText(appendText(to, a[0]), a[1])
	}
	to = appendText(to, "") // no attribute has this name
	to = binary.AppendUvarint(to, uint64(len(e.DataEncoded)))
	return append(to, e.DataEncoded...)
}

// attributes returns the names and values of an event's attributes, but for specversion.
func attributes(e event.Event) [][2]string {
	all := [][2]string{{"id", e.ID()}, {"source", e.Source()}, {"type", e.Type()}}
	optional := func(name, value string) {
		if value != "" {
			all = append(all, [2]string{name, value})
		}
	}
	optional("subject", e.Subject())
	optional("dataschema", e.DataSchema())
	optional("datacontenttype", e.DataContentType())
	if at := e.Time(); !at.IsZero() {
		optional("time", types.FormatTime(at))
	}
	extensions := e.Extensions()
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		text, err := types.Format(extensions[name])
		if err == nil { // a valid event has no other
			all = append(all, [2]string{name, text})
		}
	}
	return all
}

// ReadEvent returns the event that [AppendEvent] has written. It shares no memory with the
// bytes.
func ReadEvent(from []byte) (event.Event, error) {
	if len(from) < 2 || from[0] != recordVersion {
		return event.Event{}, errRecord
	}
	flags, from := from[1], from[2:]
	c := new(event.EventContextV1)
	for {
		var name, value string
		var ok bool
		if name, from, ok = cutText(from); !ok {
			return event.Event{}, errRecord
		}
		if name == "" {
			break
		}
		if value, from, ok = cutText(from); !ok || !set(c, name, value) {
			return event.Event{}, errRecord
		}
	}
	data, from, ok := cutText(from)
	if !ok || len(from) > 0 {
		return event.Event{}, errRecord
	}
	e := event.Event{Context: c, DataBase64: flags&hasBase64 != 0}
	if data != "" {
		e.DataEncoded = []byte(data)
	}
	return e, nil
}

// set sets an attribute, and reports whether it can have the value.
func set(c *event.EventContextV1, name, value string) bool {
	switch name {
	case "id":
		c.ID = value
	case "source":
		source := types.ParseURIRef(value)
		if source == nil {
			return false
		}
		c.Source = *source
	case "type":
		c.Type = value
	case "subject":
		c.Subject = &value
	case "dataschema":
		c.DataSchema = types.ParseURI(value)
		return c.DataSchema != nil
	case "datacontenttype":
		c.DataContentType = &value
	case "time":
		at, err := types.ParseTime(value)
		c.Time = &types.Timestamp{Time: at}
		return err == nil
	default:
		if c.Extensions == nil {
			c.Extensions = make(map[string]any)
		}
		c.Extensions[name] = value
	}
	return true
}

// recordOf returns the record of a verdict.
func recordOf(v Verdict) []byte {
	var flags byte
	if v.Reply != nil {
		flags |= hasReply
	}
	to := append(make([]byte, 0, 256), recordVersion, flags)
	to = appendText(to, string(v.Outcome))
	to = binary.AppendUvarint(to, uint64(v.RetryAfter)) //nolint:gosec // it is not negative
	if v.Reply != nil {
		to = AppendEvent(to, *v.Reply)
	}
	return to
}

// verdictIn returns the verdict that a record holds.
func verdictIn(record []byte) (Verdict, error) {
	if len(record) < 2 || record[0] != recordVersion {
		return Verdict{}, errRecord
	}
	flags := record[1]
	outcome, rest, ok := cutText(record[2:])
	if !ok || !slices.Contains(outcomes(), Outcome(outcome)) {
		return Verdict{}, errRecord
	}
	after, n := binary.Uvarint(rest)
	if n <= 0 {
		return Verdict{}, errRecord
	}
	v := Verdict{Outcome: Outcome(outcome), RetryAfter: time.Duration(after)} //nolint:gosec // it was one
	if flags&hasReply != 0 {
		reply, err := ReadEvent(rest[n:])
		if err != nil {
			return Verdict{}, err
		}
		v.Reply = &reply
	}
	return v, nil
}

func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// cutText returns the text that appendText has appended, and what follows.
func cutText(from []byte) (text string, rest []byte, ok bool) {
	size, n := binary.Uvarint(from)
	if n <= 0 || size > uint64(len(from)-n) { //nolint:gosec // n is at most len(from)
		return "", nil, false
	}
	end := n + int(size) //nolint:gosec // it is at most len(from)
	return string(from[n:end]), from[end:], true
}
