// Package okta stands in for github.com/okta/okta-sdk-golang, which Vault asks for a second factor when somebody logs in. The
// devstack's Vault asks for none, and the original is the largest package that Vault links: 1,051 files.
package okta

import (
	"context"
	"errors"
)

// ConfigSetter changes nothing.
type ConfigSetter func(*Configuration)

// WithToken ignores the token.
func WithToken(string) ConfigSetter { return nil }

// WithOrgUrl ignores the URL.
func WithOrgUrl(string) ConfigSetter { return nil }

// WithCache ignores its argument.
func WithCache(bool) ConfigSetter { return nil }

// Configuration is what NewConfiguration would return.
type Configuration struct{ Context context.Context }

// NewConfiguration always fails, so that nothing below it is ever called.
func NewConfiguration(...ConfigSetter) (*Configuration, error) {
	return nil, errors.New("this Vault is built without Okta's SDK: it cannot ask Okta for a second factor")
}

// APIClient has the two parts of Okta's API that Vault calls.
type APIClient struct {
	UserAPI       userAPI
	UserFactorAPI userFactorAPI
}

// NewAPIClient returns a client without a configuration.
func NewAPIClient(*Configuration) *APIClient { return &APIClient{} }

// GetConfig returns an empty configuration.
func (*APIClient) GetConfig() *Configuration { return &Configuration{} }

type (
	userAPI       struct{}
	userFactorAPI struct{}
)

// request is a request that returns nothing.
type request[T any] struct{}

func (request[T]) Filter(string) request[T]            { return request[T]{} }
func (request[T]) Execute() (answer T, _ any, _ error) { return answer, nil, nil }

func (userAPI) ListUsers(context.Context) request[[]User] { return request[[]User]{} }

func (userFactorAPI) ListFactors(context.Context, string) request[[]Factor] {
	return request[[]Factor]{}
}

func (userFactorAPI) VerifyFactor(context.Context, string, string) request[*Verification] {
	return request[*Verification]{}
}

func (userFactorAPI) GetFactorTransactionStatus(context.Context, string, string, string) request[*Transaction] {
	return request[*Transaction]{}
}

// User is a user of Okta's.
type User struct{}

// GetId returns nothing.
func (User) GetId() string { return "" }

// Factor is a second factor of a user's.
type Factor struct{ UserFactorPush *UserFactorPush }

// UserFactorPush is a factor that is confirmed on a phone.
type UserFactorPush struct{}

// GetId returns nothing.
func (*UserFactorPush) GetId() string { return "" }

// Verification is the response to VerifyFactor.
type Verification struct{ Links map[string]any }

// GetFactorResult returns nothing.
func (*Verification) GetFactorResult() string { return "" }

// Transaction is the state of a verification: one of its members is set.
type Transaction struct {
	UserFactorPushTransaction, UserFactorPushTransactionWaiting         *struct{}
	UserFactorPushTransactionRejected, UserFactorPushTransactionTimeout *struct{}
}
