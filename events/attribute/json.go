package attribute

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// MaxDepth is how deep JSON may be nested. encoding/json's own limit is ten times
	// that; no event is that deep, and each level costs a receiver memory.
	MaxDepth = 1000

	// maxMembers bounds the members of a structured event. Headers are bounded by the
	// server.
	maxMembers = 256
)

// errJSON is a body that should be JSON and is not, is no object, or is over a limit.
var errJSON = errors.New("not JSON as it is taken here")

// IsJSON reports whether text is one JSON text (RFC 8259) in UTF-8, at most MaxDepth
// deep.
func IsJSON(text []byte) bool {
	s := scanner{text: text}
	return utf8.Valid(text) && s.value(0) && s.ended()
}

// IsJSONObject reports whether text is one JSON object.
func IsJSONObject(text []byte) bool {
	s := scanner{text: text}
	s.space()
	return s.next() == '{' && IsJSON(text)
}

// A Member is one of a JSON object's. Its value is a part of the text.
type Member struct {
	Name  string
	Value []byte
}

// AppendCompact appends one JSON text to line, without the space between its tokens. Like IsJSON it
// reports whether text is one.
func AppendCompact(line, text []byte) ([]byte, bool) {
	s := scanner{text: text, compacts: true, compact: line}
	ok := utf8.Valid(text) && s.value(0) && s.ended()
	return append(s.compact, text[s.copied:]...), ok
}

// Members returns the members of a JSON object, without those that are null, which is how the
// JSON format writes an absent one. A name that occurs twice is refused: implementations disagree
// on which of the two wins.
func Members(text []byte) ([]Member, error) {
	s := scanner{text: text, collects: true, members: make([]Member, 0, 8)}
	s.space()
	if s.next() != '{' || !utf8.Valid(text) || !s.value(0) || !s.ended() {
		return nil, errJSON // whatever else is wrong with it
	}
	if s.wrong != nil {
		return nil, s.wrong
	}
	present := s.members[:0]
	for _, m := range s.members {
		if string(m.Value) != "null" {
			present = append(present, m)
		}
	}
	return present, nil
}

// member takes a member of the outermost object, unless one is wrong.
func (s *scanner) member(text, value []byte) {
	if s.wrong != nil {
		return
	}
	name, ok := nameOf(text)
	if !ok {
		s.wrong = Malformed("") // half a surrogate pair
		return
	}
	for _, other := range s.members {
		if other.Name == name {
			s.wrong = Malformed(name)
			return
		}
	}
	if len(s.members) == maxMembers {
		s.wrong = errJSON
		return
	}
	s.members = append(s.members, Member{name, value})
}

// nameOf is String of a member's name. The specification's own names cost no allocation.
func nameOf(value []byte) (string, bool) {
	switch string(value) {
	case `"specversion"`:
		return "specversion", true
	case `"id"`:
		return "id", true
	case `"source"`:
		return "source", true
	case `"type"`:
		return "type", true
	case `"datacontenttype"`:
		return "datacontenttype", true
	case `"subject"`:
		return "subject", true
	case `"time"`:
		return "time", true
	case `"data"`:
		return "data", true
	}
	return String(value)
}

// A scanner walks over a JSON text and builds nothing of it. encoding/json, which bounds neither
// the depth at a thousand nor notices a name that occurs twice, takes 3 µs longer for the members of
// a structured event, a tenth of what such an event costs in all. encoding/json/jsontext can take
// the scanner's place once it is in every build of Go; in 1.26 it is an experiment.
type scanner struct {
	text []byte
	at   int

	compacts bool   // whether the text is copied without its space:
	copied   int    // up to here,
	compact  []byte // to here

	collects bool     // whether the members of the outermost object are kept:
	members  []Member // here,
	wrong    error    // or what is wrong with the first that cannot be
}

// next returns the byte that is next, 0 at the end, which no JSON has.
func (s *scanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) space() {
	began := s.at
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
			continue
		}
		break
	}
	if s.compacts && s.at > began {
		s.compact, s.copied = append(s.compact, s.text[s.copied:began]...), s.at
	}
}

// ended reports whether nothing but space is left.
func (s *scanner) ended() bool {
	s.space()
	return s.at == len(s.text)
}

// value consumes one value and reports whether it is one.
func (s *scanner) value(depth int) bool {
	s.space()
	switch c := s.next(); c {
	case '"':
		return s.str()
	case '{', '[':
		return depth < MaxDepth && s.list(c, depth+1)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

// list consumes an object or an array.
func (s *scanner) list(open byte, depth int) bool {
	end := open + 2 // of both brackets, in ASCII
	s.at++
	s.space()
	if s.next() == end {
		s.at++
		return true
	}
	for {
		var name []byte
		if open == '{' {
			s.space()
			began := s.at
			if s.next() != '"' || !s.str() {
				return false
			}
			name = s.text[began:s.at]
			s.space()
			if s.next() != ':' {
				return false
			}
			s.at++
		}
		s.space()
		began := s.at
		if !s.value(depth) {
			return false
		}
		if s.collects && depth == 1 {
			s.member(name, s.text[began:s.at:s.at])
		}
		s.space()
		switch s.next() {
		case ',':
			s.at++
		case end:
			s.at++
			return true
		default:
			return false
		}
	}
}

func (s *scanner) str() bool {
	text := s.text
	for at := plain(text, s.at+1); at < len(text); at++ { // in a local, since most of a text is strings
		switch c := text[at]; {
		case c == '"':
			s.at = at + 1
			return true
		case c < ' ':
			return false
		case c == '\\':
			s.at = at
			if !s.escape() {
				return false
			}
			at = s.at
		}
	}
	return false
}

// plain returns where to look on from a place within a string: up to there it has no quote, no
// backslash and no control character, eight bytes at a time.
func plain(text []byte, at int) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for at+8 <= len(text) {
		eight := binary.LittleEndian.Uint64(text[at:])
		quote, backslash := eight^'"'*each, eight^'\\'*each
		if ((eight-' '*each)&^eight|(quote-each)&^quote|(backslash-each)&^backslash)&high != 0 {
			break // one of the eight is one of them
		}
		at += 8
	}
	return at
}

// escape consumes an escape sequence except for its final byte.
func (s *scanner) escape() bool {
	s.at++
	switch s.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		if s.at+4 >= len(s.text) || escapedUnit(s.text[s.at-1:]) < 0 {
			return false
		}
		s.at += 4
		return true
	}
	return false
}

func (s *scanner) number() bool {
	if s.next() == '-' {
		s.at++
	}
	if s.next() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.next() == '.' {
		s.at++
		if !s.digits() {
			return false
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		s.at++
		if c := s.next(); c == '+' || c == '-' {
			s.at++
		}
		return s.digits()
	}
	return true
}

// digits consumes digits and reports whether there was one.
func (s *scanner) digits() bool {
	began := s.at
	for '0' <= s.next() && s.next() <= '9' {
		s.at++
	}
	return s.at > began
}

func (s *scanner) word(word string) bool {
	if len(s.text)-s.at < len(word) || string(s.text[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

// String returns the text of a JSON string, and false for any other value and
// for half a surrogate pair, which is no text.
func String(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	if i := bytes.IndexByte(value, '\\'); i >= 0 {
		var text string
		return text, !halfPair(value[i:]) && json.Unmarshal(value, &text) == nil
	}
	return string(value[1 : len(value)-1]), true
}

// isPlainString reports whether a JSON value is a string without escape sequences.
func isPlainString(value []byte) bool {
	return len(value) >= 2 && value[0] == '"' && bytes.IndexByte(value, '\\') < 0
}

// halfPair reports whether a JSON string has an escaped surrogate without its other
// half, for which encoding/json puts U+FFFD.
func halfPair(value []byte) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		unit := escapedUnit(value[i:])
		switch {
		case utf16.IsSurrogate(unit) && utf16.DecodeRune(unit, escapedUnit(value[i+6:])) == utf8.RuneError:
			return true
		case utf16.IsSurrogate(unit):
			i += 11
		case unit >= 0:
			i += 5
		default:
			i++ // a backslash and the character it escapes
		}
	}
	return false
}

// escapedUnit returns the code unit of the \uXXXX that s starts with, -1 if it does not.
func escapedUnit(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}
