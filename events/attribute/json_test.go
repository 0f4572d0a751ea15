package attribute_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"coffeebuddy/events/attribute"
)

// FuzzJSON compares the scanner with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e+7,{"b":null}],"\u00e9\n":true}`, `[]`, ` "\ud800" `, `01`, `{"a":1,}`, "[1 2]", `"`, "\"\x00\"", "-", "1.", "1e", "nul"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := attribute.IsJSON(text), json.Valid(text) && bytes.Equal(bytes.ToValidUTF8(text, nil), text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
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
