package coffeebuddy

import (
	"fmt"
	"log/slog"
)

// redacted stands wherever a Secret would be shown.
const redacted = "[redacted]"

// A Secret is a text that cannot be printed, logged, marshalled or formatted: all
// of these show "[redacted]". Only [Secret.Reveal] gives it away.
//
// It holds a func, not a string, so that even a printer that reads unexported
// fields by reflection finds an address.
type Secret struct{ reveal func() string }

// NewSecret returns a Secret of a text.
func NewSecret(text string) Secret {
	return Secret{func() string { return text }}
}

// Reveal returns the text itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Format implements fmt.Formatter for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON, XML and YAML too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary implements encoding.BinaryMarshaler, for gob too.
func (s Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }
