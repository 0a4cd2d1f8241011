// What all scripts share: the shop's routes as functions, what counts as an error, and limits.
//
// Settings come as environment variables. BASE_URL is the storefront's address; THRESHOLDS chooses
// between `ours` and those of the `workshop`; METHOD is how orders are paid, where they don't say.

import { check } from "k6";
import http from "k6/http";
import { Counter, Rate } from "k6/metrics";

const BASE_URL = (__ENV.BASE_URL || "http://127.0.0.1:3000").replace(/\/+$/, "");
const PAYMENT = __ENV.METHOD ? { payment: { method: __ENV.METHOD } } : {};
const JSON_BODY = { "Content-Type": "application/json" };

// The name of each route, without ids: the tag `name`, by which metrics are kept.
export const ROUTES = {
  products: "GET /api/products",
  cart: "POST /api/cart",
  place: "POST /api/orders",
  pay: "POST /api/orders/{id}/payment",
  issue: "POST /api/coupons/{id}/issue",
};

// Steps that had another answer than they may have, of all steps. http_req_failed knows the status
// alone; an order without an id is an error, too.
const errors = new Rate("errors");
export const confirmed = new Counter("orders_confirmed");
export const granted = new Counter("granted");
export const refused = new Counter("refused");

const LIMITS = {
  ours: { share: 0.001, p95_ms: 250 },
  workshop: { share: 0.1, p95_ms: 1000 },
};

const COMPLAINTS = 100; // of each virtual user: beyond, nothing new would be said
let complaints = 0;

export const TREND_STATS = ["avg", "min", "med", "max", "p(90)", "p(95)", "p(99)"];

// The thresholds that THRESHOLDS names, and one that always holds for each route: k6 sums up a
// route of its own only where it has a threshold.
export function thresholds(...routes) {
  const name = __ENV.THRESHOLDS || "ours";
  const limits = LIMITS[name];
  if (!limits) {
    throw new Error(`THRESHOLDS is ${name}; it can be ${Object.keys(LIMITS).join(" or ")}`);
  }
  return {
    errors: [`rate<${limits.share}`],
    http_req_failed: [`rate<${limits.share}`],
    http_req_duration: [`p(95)<${limits.p95_ms}`],
    ...summed(...routes),
  };
}

// The thresholds of a crowd that wants `supply` things and asks `requests` times: so many get one,
// all others are refused, and nothing else happens.
export function exactly(supply, requests, ...routes) {
  return {
    errors: ["rate==0"],
    http_req_failed: ["rate==0"],
    granted: [`count==${supply}`],
    refused: [`count==${requests - supply}`],
    ...summed(...routes),
  };
}

function summed(...routes) {
  return Object.fromEntries(
    routes.map((route) => [`http_req_duration{name:${route}}`, ["max>=0"]]),
  );
}

// Thresholds that always hold, so that k6 sums up what is tagged `part:steady`, and these routes of it.
export function steady(...routes) {
  const parts = ["", ...routes.map((route) => `,name:${route}`)];
  return Object.fromEntries(
    parts.map((part) => [`http_req_duration{part:steady${part}}`, ["max>=0"]]),
  );
}

// A whole number above 0 from the environment.
export function count(name, otherwise) {
  const value = Number(__ENV[name] || otherwise);
  if (!Number.isInteger(value) || value < 1) {
    throw new Error(`${name} is ${__ENV[name]}; it has to be a whole number above 0`);
  }
  return value;
}

// A crowd's 409 is an answer, not a failure: call this in a script's init code.
export function expectRefusals() {
  http.setResponseCallback(http.expectedStatuses(200, 409));
}

http.setResponseCallback(http.expectedStatuses(200));

function post(route, path, body) {
  return http.post(`${BASE_URL}${path}`, JSON.stringify(body), {
    headers: JSON_BODY,
    tags: { name: route },
  });
}

function judged(response, what, good) {
  const well = check(response, { [what]: good });
  errors.add(!well);
  if (!well && complaints < COMPLAINTS) {
    complaints += 1;
    console.warn(`not so: ${what}: ${found(response)}`);
  }
  return well;
}

// What was answered instead, in few words: the log is read by those who look for the cause.
function found(response) {
  if (response.status === 0) {
    return response.error;
  }
  return `${response.status} ${field(response, "reason") || field(response, "title") || ""}`.trim();
}

function field(response, name) {
  try {
    return response.json(name);
  } catch {
    return null; // not JSON, as where nothing answered
  }
}

function orderId(response) {
  return field(response, "orderId");
}

export function browse() {
  const response = http.get(`${BASE_URL}/api/products`, { tags: { name: ROUTES.products } });
  judged(response, "products are listed", (one) => one.status === 200);
}

export function putIntoCart(userId, productId) {
  const response = post(ROUTES.cart, "/api/cart", { userId, productId, quantity: 1 });
  judged(response, "the cart takes it", (one) => one.status === 200);
}

// The id of an order that was placed, or null. An error unless 200 with an id.
export function place(userId, productId) {
  const response = order(userId, productId);
  const well = judged(
    response,
    "the order is placed",
    (one) => one.status === 200 && !!orderId(one),
  );
  return well ? orderId(response) : null;
}

// The same of a scarce product: null as well where it is gone, which is no error.
export function placeIfLeft(userId, productId) {
  const response = order(userId, productId);
  const answered = (one) => one.status === 409 || (one.status === 200 && !!orderId(one));
  judged(response, "the order is placed or refused", answered);
  (response.status === 409 ? refused : granted).add(answered(response) ? 1 : 0);
  return response.status === 200 ? orderId(response) : null;
}

function order(userId, productId) {
  return post(ROUTES.place, "/api/orders", { userId, items: [{ productId, quantity: 1 }] });
}

export function pay(userId, id) {
  const response = post(ROUTES.pay, `/api/orders/${id}/payment`, { userId, ...PAYMENT });
  const well = judged(response, "the order is paid", (one) => one.status === 200);
  confirmed.add(well ? 1 : 0);
}

// Ask a campaign for a coupon: 200 is one, 409 is none, and neither is an error.
export function askForCoupon(userId, couponId) {
  const response = post(ROUTES.issue, `/api/coupons/${couponId}/issue`, { userId });
  const answered = (one) => one.status === 200 || one.status === 409;
  judged(response, "the coupon is issued or refused", answered);
  (response.status === 409 ? refused : granted).add(answered(response) ? 1 : 0);
}
