// Package server offers services over HTTP/JSON and gRPC at once, from one implementation.
//
//	HTTP  ─► limits ─► route (from the proto's http option) ─► JSON → message ─┐
//	                                                                           ├─► interceptors ─► service method
//	gRPC  ─► grpc-go listener ─────────────────────────────────────────────────┘
//
// A service is registered once, with its generated grpc.ServiceDesc. Its HTTP routes are read from the method option
// tributary.api.v1.http, and so is /openapi.json. Headers of an HTTP request reach the method as gRPC metadata under the
// same names in lower case, so a method reads Idempotency-Key, If-Match or X-Read-After in one way only. Errors are
// returned as they are; this package maps them, in one place, to gRPC statuses and to problem answers (RFC 9457).
//
// The package knows no domain and no driver. It is safe for concurrent use after Run has begun.
package server
