// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// Takes tokens from one address and pays them out to others within one transaction, as routers, bridges and the sweepers of
/// exchanges do: between payer and payee stands a contract, and the transaction logs one transfer for each step.
contract Relay {
    function pay(address token, address from, address[] calldata to, uint256[] calldata values) external {
        uint256 sum;
        for (uint256 n = 0; n < values.length; n++) sum += values[n];
        call(token, abi.encodeWithSignature("transferFrom(address,address,uint256)", from, address(this), sum));
        for (uint256 n = 0; n < to.length; n++) {
            call(token, abi.encodeWithSignature("transfer(address,uint256)", to[n], values[n]));
        }
    }

    /// USDT's transfers return nothing, so only the call itself says whether it worked.
    function call(address token, bytes memory data) private {
        (bool done, ) = token.call(data);
        require(done, "the token refuses");
    }
}
