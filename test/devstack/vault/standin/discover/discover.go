// Package discover stands in for github.com/hashicorp/go-discover, through which a Raft cluster finds its peers in a cloud. The
// devstack's Vault has no cluster, and the original links the clients of a dozen clouds and of Kubernetes.
package discover

import (
	"errors"
	"log"
)

var errAbsent = errors.New("this Vault is built without go-discover: it cannot find peers in a cloud")

// Provider finds addresses in one cloud.
type Provider interface {
	Addrs(args map[string]string, l *log.Logger) ([]string, error)
	Help() string
}

// Providers is empty: there are no clouds here.
var Providers = map[string]Provider{}

// Discover finds nothing.
type Discover struct{}

// Option changes nothing.
type Option func(*Discover) error

// New returns a Discover that finds nothing.
func New(...Option) (*Discover, error) { return &Discover{}, nil }

// WithProviders ignores the providers.
func WithProviders(map[string]Provider) Option {
	return func(*Discover) error { return nil }
}

// Addrs always fails.
func (*Discover) Addrs(string, *log.Logger) ([]string, error) { return nil, errAbsent }

// Config is what Parse would return.
type Config map[string]string

// Parse always fails.
func Parse(string) (Config, error) { return nil, errAbsent }

// String returns nothing, as there is no Config.
func (Config) String() string { return "" }
