// One session of ethers 6 with a dev chain: deploys, sends, reads events, meets errors. Prints what it saw.
// Usage: NODE_PATH=contracts/node_modules node ethers_session.cjs URL PRIVATE_KEY ARTIFACT
const fs = require("node:fs");
const { ContractFactory, JsonRpcProvider, Wallet } = require("ethers");

async function main([url, key, artifactPath]) {
  const artifact = JSON.parse(fs.readFileSync(artifactPath, "utf8"));
  // ethers keeps answers for 250 ms; the chain of the tests makes a block in less.
  const options = { pollingInterval: 100, cacheTimeout: -1 };
  const provider = new JsonRpcProvider(url, undefined, options);
  const wallet = new Wallet(key, provider);
  const seen = { chainId: Number((await provider.getNetwork()).chainId) };

  const factory = new ContractFactory(artifact.abi, artifact.bytecode, wallet);
  const token = await factory.deploy("Coin", "COIN", 6, wallet.address);
  await token.waitForDeployment();
  await (await token.mint(wallet.address, 1000n)).wait();

  const heard = new Promise((resolve) => token.once("Transfer", (from, to, value) => resolve(Number(value))));
  await new Promise((resolve) => setTimeout(resolve, 300));
  const sent = await token.transfer("0x" + "61".repeat(20), 250n);
  const receipt = await sent.wait(2);
  seen.heard = await heard;
  seen.status = receipt.status;
  seen.confirmations = (await receipt.confirmations()) >= 2;
  seen.balance = Number(await token.balanceOf(wallet.address));
  const events = await token.queryFilter(token.filters.Transfer(wallet.address));
  seen.events = events.map((event) => Number(event.args.value));

  try {
    await token.transfer.staticCall("0x" + "61".repeat(20), 10n ** 20n);
  } catch (error) {
    seen.callError = error.code;
    seen.callErrorName = error.revert?.name;
  }
  try {
    await token.transfer("0x" + "61".repeat(20), 10n ** 20n);
  } catch (error) {
    seen.sendError = error.code;
    seen.sendErrorName = error.revert?.name ?? token.interface.parseError(error.data)?.name;
  }

  const fees = await provider.getFeeData();
  seen.fees = fees.maxFeePerGas > fees.maxPriorityFeePerGas && fees.gasPrice > 0n;
  const block = await provider.getBlock(receipt.blockNumber, true);
  seen.prefetched = block.prefetchedTransactions.map((item) => item.hash).includes(sent.hash);
  seen.pending = (await provider.getBlock("pending")).number > receipt.blockNumber;
  seen.nonces = [await wallet.getNonce("latest"), await wallet.getNonce("pending")];
  seen.code = (await provider.getCode(await token.getAddress())) !== "0x";
  provider.destroy();
  console.log(JSON.stringify(seen));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
