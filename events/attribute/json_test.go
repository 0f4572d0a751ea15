package attribute_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"coffeebuddy/events/attribute"

	"github.com/matryer/is"
)

// FuzzJSON compares the scanner with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e+7,{"b":null}],"\u00e9\n":true}`, `[]`, ` "\ud800" `, `01`, `{"a":1,}`, "{ \"a\" :\t[ 1 , {} ] ,\r\n\"b\": \"c d\" } ", `{"a":1,"a":2}`, `{"a":1,"a":2`, "[1 2]", `"`, "\"\x00\"", "-", "1.", "1e", "nul"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := attribute.IsJSON(text), json.Valid(text) && bytes.Equal(bytes.ToValidUTF8(text, nil), text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		var compact bytes.Buffer
		got, ok := attribute.AppendCompact([]byte("before"), text)
		if ok != attribute.IsJSON(text) || ok && (json.Compact(&compact, text) != nil || string(got) != "before"+compact.String()) {
			t.Errorf("%q: compact it is %q, %v, want %q", text, got, ok, &compact)
		}
		members, err := attribute.Members(text)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, m := range members {
			if !bytes.Equal(want[m.Name], m.Value) {
				t.Errorf("%q: %q is %q, want %q", text, m.Name, m.Value, want[m.Name])
			}
			delete(want, m.Name)
		}
		for name, value := range want {
			if string(value) != "null" {
				t.Errorf("%q: %q is missing", text, name)
			}
		}
	})
}

// TestJSONString: a string ends, or is refused, by the byte that says so wherever it is among
// those that are looked at together.
func TestJSONString(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for at := range 24 {
		for c := range 256 {
			text := []byte(`["` + strings.Repeat("é", at/2) + strings.Repeat("x", at%2) + string([]byte{byte(c)}) + strings.Repeat("~", 23-at) + `"]`)
			is.Equal(attribute.IsJSON(text), json.Valid(text) && utf8.Valid(text))
		}
	}
}
