// Package api offers the shop as the services of tributary.commerce.api.v1: requests become commands on the bus, and
// queries are answered from the read models.
//
// Calls carry metadata, over HTTP as headers of the same names: idempotency-key, if-match, x-durability, x-read-after,
// x-tenant, x-correlation-id, x-causation-id, traceparent, tracestate. Errors are returned as they are; the server maps
// them to statuses.
package api
