package devstack

// Secret is a token or a key. It formats as stars, so that it cannot slip into a log, an error or a test's output.
type Secret string

// Reveal returns the value, for a header, an environment variable or a file only its owner can read.
func (s Secret) Reveal() string { return string(s) }

func (Secret) String() string { return "***" }

// GoString keeps %#v from showing the value.
func (Secret) GoString() string { return "***" }

// MarshalText keeps encoders from writing the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }
