// Package kong checks the gateway's configuration in the folder kong/ of this project,
// in both of its forms.
//
// One model holds what a Kong would hold: kong.yaml is read into it as it is, and
// kubernetes/ is translated into it the way the Kong Ingress Controller does. The rules,
// and a small copy of Kong's router, work on the model, so each is written once. Each
// rule stands for a mistake that a valid file can hold, and for each there is a planted
// one that it must catch.
//
// What is valid at all is for others to say: the keys for the types here, the Kubernetes
// objects for the API server's own validation with the published definitions, and the
// plugins for Kong's published schemas, where these are at hand.
package kong
