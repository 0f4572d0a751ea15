// Package awskms stands in for the key wrapper of AWS, with which Vault unseals itself. The devstack's Vault is unsealed by its
// API, and the original links the client of that cloud.
package awskms

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// The environment variables and settings that Vault knows by their constants.
const (
	EnvAwsKmsWrapperKeyId   = "AWSKMS_WRAPPER_KEY_ID"
	EnvVaultAwsKmsSealKeyId = "VAULT_AWSKMS_SEAL_KEY_ID"
)

// Wrapper cannot be configured, so no other method of it is ever called.
type Wrapper struct{ wrapping.Wrapper }

// NewWrapper returns a Wrapper.
func NewWrapper() *Wrapper { return &Wrapper{} }

// SetConfig always fails.
func (*Wrapper) SetConfig(context.Context, ...wrapping.Option) (*wrapping.WrapperConfig, error) {
	return nil, errors.New("this Vault is built without the key wrapper of AWS")
}

// WithDisallowEnvVars changes nothing.
func WithDisallowEnvVars(bool) wrapping.Option { return func() any { return nil } }

// WithLogger changes nothing.
func WithLogger(hclog.Logger) wrapping.Option { return func() any { return nil } }
