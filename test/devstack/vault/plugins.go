package main

import (
	"slices"

	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// authMethods returns the auth methods that may be enabled, besides tokens.
func authMethods() map[string]logical.Factory {
	return map[string]logical.Factory{"jwt": jwt.Factory, "kubernetes": kubernetes.Factory}
}

// secretsEngines returns the secrets engines that may be enabled, besides KV and cubbyhole.
func secretsEngines() map[string]logical.Factory {
	return map[string]logical.Factory{"database": database.Factory}
}

// postgresqlPlugin is how the database secrets engine calls its plugin for PostgreSQL.
const postgresqlPlugin = "postgresql-database-plugin"

// plugins is the registry of what is compiled in. Vault describes its mounts by it and finds database plugins in it.
type plugins struct{}

// Contains reports whether the plugin is compiled in.
func (p plugins) Contains(name string, kind consts.PluginType) bool {
	return slices.Contains(p.Keys(kind), name)
}

// Get returns the constructor of a database plugin. Auth methods and secrets engines are given to Vault's core instead.
func (plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	if kind != consts.PluginTypeDatabase || name != postgresqlPlugin {
		return nil, false
	}
	return postgresql.New, true
}

// Keys returns the names of the plugins of a kind.
func (plugins) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeDatabase {
		return []string{postgresqlPlugin}
	}
	return nil
}

// DeprecationStatus tells Vault that what is compiled in is supported.
func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	if p.Contains(name, kind) {
		return consts.Supported, true
	}
	return consts.Unknown, false
}

// IsBuiltinEntPlugin reports that no plugin is of Vault's Enterprise edition.
func (plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
