// A coupon rush: thousands of users, all at once, for the few coupons of one campaign. Each asks
// once. Exactly the coupons are issued, everybody else is told 409.
//
//   k6 run -e CAMPAIGN=RUSH-1 -e COUPONS=100 -e USERS=5000 -e AT_ONCE=500 coupon-rush.js
//
// The campaign must be there with exactly COUPONS coupons, none of them issued.

import exec from "k6/execution";
import * as shop from "./shop.js";

const CAMPAIGN = __ENV.CAMPAIGN || "RUSH";
const COUPONS = shop.count("COUPONS", 100);
const USERS = shop.count("USERS", 5000);
const AT_ONCE = shop.count("AT_ONCE", 500);

shop.expectRefusals();

export const options = {
  scenarios: {
    rush: { executor: "shared-iterations", vus: AT_ONCE, iterations: USERS, maxDuration: "5m" },
  },
  thresholds: shop.exactly(COUPONS, USERS, shop.ROUTES.issue),
  summaryTrendStats: shop.TREND_STATS,
};

export default function () {
  shop.askForCoupon(`user_${1 + exec.scenario.iterationInTest}`, CAMPAIGN);
}
