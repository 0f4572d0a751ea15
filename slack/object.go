package slack

import (
	"bytes"
	"encoding/json"
	"io"
)

// An object is a JSON object: its values by their exact names. (Unmarshalling into a struct would
// match names case-insensitively.) A value of an unexpected type counts as absent: what Slack adds
// is not malformed.
type object map[string]json.RawMessage

// objectOf parses a JSON object. It rejects duplicate names, because implementations disagree on
// which one wins.
func objectOf(text []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errMalformed
	}
	o := make(object)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errMalformed
		}
		var value json.RawMessage
		if _, twice := o[name.(string)]; twice || decoder.Decode(&value) != nil {
			return nil, errMalformed
		}
		o[name.(string)] = value
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, errMalformed
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errMalformed
	}
	return o, nil
}

// text returns the string with this name, or "".
func (o object) text(name string) string {
	var text string
	_ = json.Unmarshal(o[name], &text)
	return text
}

// object returns the object with this name, or nil.
func (o object) object(name string) object {
	inner, err := objectOf(o[name])
	if err != nil {
		return nil
	}
	return inner
}

// head returns the first element of the list with this name if that is an object, or nil.
func (o object) head(name string) object {
	var list []json.RawMessage
	if json.Unmarshal(o[name], &list) != nil || len(list) == 0 {
		return nil
	}
	return object{"": list[0]}.object("")
}

// flag reports whether a value is true, or "true" as in a form.
func (o object) flag(name string) bool {
	return string(o[name]) == "true" || o.text(name) == "true"
}
